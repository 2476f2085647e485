"""The ``gentok`` command.

Exit codes: 0 done, 2 an error (one line on standard error says which), 130 stopped by Ctrl-C, or by
a cluster or a terminal that ends (SIGTERM, SIGHUP). With ``--json`` standard output holds JSON and
nothing else; its keys do not change. With ``--debug``, anywhere on the line, an error also shows
where it came from.
"""

import json
import os
import shlex
import signal
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import gentok
from gentok.book import bases, records, registry

# torch takes seconds to import, so each command imports what it needs.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Generative Tokenizers: 34 published systems, to look at, train and sample; and beside "
    "them kl_vae, a base tokenizer, and axial_video, a variant.",
    epilog="Start with: gentok list · gentok info fa_vae · gentok train fa_vae --profile smoke",
)


class _Stopped(Exception):
    """Ctrl-C, with what to say about it."""


Slug = Annotated[str, typer.Argument(help="A system, base or variant, as `gentok list` prints it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Preset = Annotated[str, typer.Option(help="A size; `gentok info SLUG` lists them.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights, batches and noise.")
]
GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # gloo's words


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gentok {gentok.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print it."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="After an error, show where it came from.")
    ] = False,
) -> None:
    """What all commands have; `run` takes ``--debug`` off the line, wherever it stands."""


@app.command("list", epilog="Example: gentok list --json")
def list_systems(as_json: Json = False) -> None:
    """List all systems of the book, and last what trains beside them: bases and variants."""
    known = (*registry.systems(), *bases.bases())
    if as_json:
        _print_json([_facts(system) for system in known])
        return
    table = Table("slug", "part", "year", "state", "what it does", title="Systems")
    for system in known:
        table.add_row(system.slug, system.part, str(system.year), system.state, system.summary)
    Console().print(table)


@app.command(epilog="Example: gentok info fa_vae --preset tiny --json")
def info(slug: Slug, preset: Preset = "tiny", as_json: Json = False) -> None:
    """Show a system: its paper, presets, configuration, parameters and cost.

    The model is built without memory for its weights, so that any size can be asked for. FLOPs are
    those of one forward pass of the loss on a batch of one, counted as two per multiply-add.
    """
    system = bases.get(slug)
    facts = _facts(system)
    if system.module is not None:
        facts |= _size(slug, preset)
    if as_json:
        _print_json(facts)
        return
    table = Table("", "", show_header=False, title=system.title)
    for name, value in facts.items():
        if name == "config":
            value = "\n".join(f"{key} = {item}" for key, item in value.items())
        elif isinstance(value, int) and name != "year":
            value = f"{value:,}"
        elif isinstance(value, list):
            value = ", ".join(value)
        table.add_row(name.replace("_", " "), "" if value is None else str(value))
    Console().print(table)


@app.command(
    epilog="Example: gentok train enat --profile smoke · on several GPUs: "
    "accelerate launch -m gentok.cli train enat --profile gpu"
)
def train(
    slug: Slug,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A size; `gentok info SLUG` lists them.",
            show_default="tiny; in the profile long that of the book's weights",
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="smoke, cpu, study, long or gpu; GENTOK_PROFILE wins.")
    ] = "cpu",
    stage: Annotated[
        str | None,
        typer.Option(
            help="One stage of a training that has several, from the checkpoint of the one before.",
            show_default="all in a row",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Checkpoint to write.", show_default="runs/SLUG-PRESET-PROFILE"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from that checkpoint.")
    ] = False,
    seed: Seed = 0,
    log: Annotated[
        str | None,
        typer.Option(
            help="csv or tensorboard: write the curves beside the checkpoint, too.",
            show_default="a line on standard error",
        ),
    ] = None,
) -> None:
    """Train a system and keep its checkpoint.

    Ctrl-C ends the step, saves and exits with code 130, and so does a cluster that ends the job. A
    run that was stopped or killed goes on with --resume, to the same result bit for bit.
    """
    chosen = _profile(profile)
    recipe = bases.recipe(slug)
    preset = preset or _default_preset(recipe, chosen.name)
    _preset(slug, preset)
    out = out or Path("runs") / f"{slug}-{preset}-{chosen.name}.safetensors"
    part, files = {}, None
    if stage is not None:
        part, files = {"stages": (stage,)}, _written(slug, recipe, preset, chosen, stage, out)
    from gentok.training import machines, trackers

    try:
        if machines.launched() > 1:
            machines.join(on_cpu=chosen.device == "cpu")
        with ExitStack() as held, trackers.tracking(log):
            machines.agreed(lambda: _take_place(held, out, resume, chosen.name, files))
            if stage is not None:
                machines.check_shared(out.parent, "--stage reads what the stage before it wrote")
            recipe.train(preset, chosen, out=out, resume=resume, seed=seed, **part)
    except KeyboardInterrupt:
        options = {"preset": preset, "profile": chosen.name, "out": str(out), "seed": str(seed)}
        options |= {} if stage is None else {"stage": stage}
        words = [slug, *(word for k, v in options.items() for word in (f"--{k}", v)), "--resume"]
        raise _Stopped(f"stopped; to go on: gentok train {shlex.join(words)}") from None
    if _is_main():
        print(f"saved {out if not files else files[-1]}")


@app.command(
    epilog="Example: gentok sample fa_vae --from runs/fa_vae-tiny-cpu.safetensors --out samples.png"
)
def sample(
    slug: Slug,
    checkpoint: Annotated[Path, typer.Option("--from", help="A checkpoint of `gentok train`.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    n: Annotated[int, typer.Option("-n", min=1, max=10_000, help="How many samples.")] = 16,
    seed: Seed = 0,
) -> None:
    """Draw samples, or reconstructions from a tokenizer, and write them to a file."""
    from gentok.training.outputs import check_place, whole_file

    bases.load(slug)
    if not checkpoint.is_file():
        raise FileNotFoundError(f"--from: no checkpoint at {checkpoint}")
    recipe = bases.recipe(slug)
    kinds = getattr(recipe, "SAMPLES", None)
    if kinds and out.suffix.lower() not in kinds:
        raise ValueError(f"--out: {slug} writes {', '.join(kinds)}; got {out.name}")
    check_place(out)
    if out.exists() and out.samefile(checkpoint):
        raise ValueError(f"--out: {out} is the checkpoint itself")
    with whole_file(out) as place:
        recipe.sample(checkpoint, place, n=n, seed=seed)
    print(f"wrote {out}")


@app.command(epilog="Example: gentok evaluate axial --from runs/axial-tiny-cpu.safetensors -n 500")
def evaluate(
    slug: Slug,
    checkpoint: Annotated[Path, typer.Option("--from", help="A checkpoint of `gentok train`.")],
    n: Annotated[int, typer.Option("-n", min=1, max=10**9, help="How many items, at most.")] = 256,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder of held-out items.", show_default="the small preset's own"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a checkpoint on held-out items, by the number that the paper reports."""
    bases.load(slug)
    recipe = bases.recipe(slug)
    if not hasattr(recipe, "evaluate"):
        able = [s.slug for s in (*registry.systems(), *bases.bases()) if s.module]
        able = [name for name in able if hasattr(bases.recipe(name), "evaluate")]
        raise ValueError(f"{slug} has no number of its own; accepted: {', '.join(able)}")
    if not checkpoint.is_file():
        raise FileNotFoundError(f"--from: no checkpoint at {checkpoint}")
    if data is not None and not data.is_dir():
        raise FileNotFoundError(f"--data: no folder at {data}")
    numbers = recipe.evaluate(checkpoint, n=n, data=data)
    if as_json:
        _print_json(numbers)
        return
    for name, value in numbers.items():
        print(f"{name.replace('_', ' ')}: {value:.4f}")


@app.command(epilog="Example: gentok claims --json")
def claims(as_json: Json = False) -> None:
    """Show what the papers claim and what was measured here.

    All verdicts are computed from the recorded rows. Under the table: how many there are of each,
    and how many survive a correction for their number.
    """
    from gentok.book.ledger import Ledger

    ledger = Ledger()
    if as_json:
        _print_json(list(ledger.claims()))
        return
    table = Table("system", "id", "claim", "difference", "seeds", "verdict", title="Claims")
    for row in ledger.table().to_dict("records"):
        table.add_row(*(str(row[column.header]) for column in table.columns))
    Console().print(table)
    Console().print(ledger.sentence())
    for slug, reasons in ledger.stale.items():
        for name, why in reasons.items():
            Console().print(f"stale: {slug}, {name!r}: {why}")


@app.command(epilog="Example: gentok doctor --json")
def doctor(as_json: Json = False) -> None:
    """Show versions, device, memory and which data sets are here."""
    from gentok.doctor import report

    facts = report()
    if as_json:
        _print_json(facts)
        return
    table = Table("", "", show_header=False, title="gentok doctor")
    for group, values in facts.items():
        for name, value in values.items():
            table.add_row(f"{group} · {name}", "not found" if value is None else str(value))
    Console().print(table)


def main() -> None:
    """Run the command and exit: 0 done, 2 error, 130 stopped."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP; nohup has it ignored
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command on the given words.

    Returns:
        the exit code; an error has been printed as one line on standard error.
    """
    records.use_installed_weights()
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"] or ["--help"]
    try:
        code = app(words, prog_name="gentok", standalone_mode=False) or 0
        if code == 130:  # typer's word for Ctrl-C; older versions raise Abort
            raise _Stopped("stopped")
        sys.stdout.flush()
        return code
    except (BrokenPipeError, SystemExit):  # who reads a pipe has seen enough; typer then exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (_Stopped, typer.Abort, KeyboardInterrupt) as stopped:
        if not isinstance(stopped.__cause__, EOFError):  # which typer takes for Ctrl-C
            _say(str(stopped) or "stopped")
            return 130
        if debug:
            traceback.print_exc()
        _say(f"error: a file ended too early: {stopped.__cause__}")
    except Exception as error:
        if debug:
            traceback.print_exc()
        _say(f"error: {_explained(error)}")
    return 2


def _explained(error: Exception) -> str:
    """What went wrong, in words; for what nobody foresaw its kind and how to see more."""
    if hasattr(error, "format_message"):  # typer's own: a wrong option, a missing argument
        context = getattr(error, "ctx", None)
        return (
            f"{error.format_message()} (see {context.command_path if context else 'gentok'} --help)"
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"too little memory: {error}"
    if isinstance(error, (ValueError, OSError, FloatingPointError)) and str(error):
        return str(error)
    if isinstance(error, RuntimeError) and any(word in str(error) for word in GONE):
        return "another process of this run has ended, and this one cannot go on without it"
    return f"{type(error).__name__}: {error} (--debug shows where)"


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _say(message: str) -> None:
    """One line on standard error, once a machine, whatever the message."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        line = "".join(c if c.isprintable() else " " for c in message)
        print("gentok:", " ".join(line.split()), file=sys.stderr)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _is_main() -> bool:
    """Whether this is the first of the processes that were launched."""
    return os.environ.get("RANK", "0") == "0"


def _facts(system: registry.System) -> dict[str, Any]:
    names = ("slug", "part", "title", "year", "arxiv", "key", "summary", "state")
    return {name: getattr(system, name) for name in names}


def _profile(name: str) -> Any:
    from gentok.training import profiles

    if name not in profiles.SEEDS:
        hint = registry.nearest(name, list(profiles.SEEDS))
        raise ValueError(f"unknown profile {name!r}{hint}; accepted: {', '.join(profiles.SEEDS)}")
    return profiles.profile(name)


def _default_preset(recipe: Any, profile: str) -> str:
    """``tiny``; the profile long trains what the book keeps weights of."""
    weights = getattr(recipe, "WEIGHTS", None)
    if isinstance(weights, dict):  # of several files the first is the system's own
        weights = next(iter(weights.values()))
    return weights.preset if profile == "long" and weights else "tiny"


def _preset(slug: str, preset: str) -> Any:
    """The configuration of a system's preset."""
    presets = bases.load(slug).PRESETS
    if preset not in presets:
        hint = registry.nearest(preset, list(presets))
        raise ValueError(f"{slug} has no preset {preset!r}{hint}; accepted: {', '.join(presets)}")
    return presets[preset]


def _written(
    slug: str, recipe: Any, preset: str, profile: Any, stage: str, out: Path
) -> list[Path]:
    """The checkpoints that a stage writes, by its recipe."""
    if not hasattr(recipe, "STAGES"):
        able = [s.slug for s in registry.systems() if s.module]
        able = [name for name in able if hasattr(registry.recipe(name), "STAGES")]
        raise ValueError(
            f"--stage: {slug} trains all at once; accepted: systems with stages, {', '.join(able)}"
        )
    return recipe.written(preset, profile, stage, out)


def _take_place(
    held: ExitStack, out: Path, resume: bool, profile: str, files: list[Path] | None
) -> None:
    """Refuse to write over checkpoints that someone may want, or where nothing can be written.

    ``held`` keeps other runs away; ``files`` are those of one stage, whose checkpoints of earlier
    ones are to stand beside them.
    """
    from gentok.training.outputs import check_place, companions, only_writer

    check_place(out)
    held.enter_context(only_writer(out))
    candidates = (out, *companions(out)) if files is None else files
    there = [path for path in candidates if path.exists()]
    for path in there:
        check_place(path)
    if there and not resume and profile != "smoke":
        raise ValueError(
            f"{there[0]} is there already: add --resume, or name another file with --out"
        )
    last = out if not files else files[-1]
    if resume and not last.is_file():
        _say(f"note: no checkpoint at {last} yet; what was not saved starts at step 0")


def _size(slug: str, preset: str) -> dict[str, Any]:
    """Configuration, parameters and FLOPs of a preset, counted on the meta device."""
    import dataclasses

    import torch

    from gentok.measure.cost import count_flops, count_parameters

    config, module = _preset(slug, preset), bases.load(slug)
    with torch.device("meta"):
        model = module.build(config)
    batch = module.example(config, batch_size=1, device="meta")
    torch.manual_seed(0)  # a loss may draw how much it masks, and so how much it computes
    try:
        flops = count_flops(model.loss, batch)
    except RuntimeError as error:  # a loss that must see values; the meta device has none
        _say(f"note: FLOPs of {slug} not counted: {error}")
        flops = None
    return {
        "preset": preset,
        "presets": list(module.PRESETS),
        "config": dataclasses.asdict(config),
        "parameters": count_parameters(model),
        "published_parameters": config.published_params,
        "flops": flops,
    }


if __name__ == "__main__":
    main()
