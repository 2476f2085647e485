// The playground for pictures: what the reader chooses, and what is shown of it.
"use strict";

const CHOICES = {
  fa_vae: { title: "FA-VAE (photographs, 64 x 64)", kind: "FAVAE" },
  kl_vae: { title: "KL-VAE (photographs, 64 x 64)", kind: "KLVAE" },
  kl_vae_shapes: { title: "KL-VAE (shapes, 32 x 32)", kind: "KLVAE" },
  vqgan_shapes: { title: "VQGAN (shapes, 32 x 32)", kind: "VQGAN" },
};
const ALL_BITS = 9; // the last place of the slider: nothing is taken away
const HALF = 16; // bits of a value, as the weights have them

class Playground {
  constructor(root) {
    this.folder = root.dataset.scripts;
    this.at = (name) => root.querySelector(`#pg-${name}`);
    this.edits = new Map(); // cell -> value
    this.turn = 0;
    this.grid = new gentok.Grid(this.at("grid"), {
      colour: (n) => this.colour(n),
      words: (n) => this.words(n),
      step: (n, direction) => this.step(n, direction),
      chosen: () => this.showValue(),
      enter: () => this.at("value").focus(),
    });
    for (const [name, { title }] of Object.entries(CHOICES)) this.at("tokenizer").add(new Option(title, name));
    this.listen(root);
  }

  listen(root) {
    const on = (name, event, action) => this.at(name).addEventListener(event, action);
    on("example", "change", () => this.openExample());
    on("file", "change", (event) => this.openFile(event.target.files[0]));
    on("zoom", "input", () => this.encode());
    on("tokenizer", "change", () => this.choose());
    on("bits", "input", () => this.update());
    on("boxes", "change", () => this.update());
    on("channel", "change", () => this.showCells());
    on("value", "change", () => this.edit(this.cell, Number(this.at("value").value)));
    on("reset", "click", () => { this.edits.clear(); this.update(); });
    root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    root.querySelectorAll("[data-keep]").forEach((button) =>
      button.addEventListener("click", () => this.keep(button.dataset.keep)));
    root.addEventListener("dragover", (event) => event.preventDefault());
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.openFile(event.dataTransfer.files[0]);
    });
  }

  say(text) {
    this.at("status").textContent = text;
  }

  async start() {
    await gentok.addScript(`${this.folder}/examples.js`);
    for (const name of Object.keys(gentok.examples)) this.at("example").add(new Option(name, name));
    await this.openExample();
    await this.choose();
  }

  // --- the picture -------------------------------------------------------------------------------

  async openExample() {
    await this.open(gentok.examples[this.at("example").value]);
  }

  openFile(file) {
    if (!file) return;
    const address = URL.createObjectURL(file);
    this.open(address, file.name).finally(() => URL.revokeObjectURL(address));
  }

  async open(address, name = "the example") {
    const image = new Image();
    image.src = address;
    try {
      await image.decode();
    } catch {
      this.say(`${name} is no picture that this browser can read.`);
      return;
    }
    this.image = image;
    this.at("zoom").value = 1;
    if (this.tokenizer) this.encode();
  }

  // The middle of the picture, as a map of `size` x `size` values in [-1, 1].
  pixels(size) {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    const side = Math.min(width, height) / Number(this.at("zoom").value);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.fillStyle = "white"; // behind what is transparent
    context.fillRect(0, 0, size, size);
    context.drawImage(this.image, (width - side) / 2, (height - side) / 2, side, side, 0, 0, size, size);
    const { data } = context.getImageData(0, 0, size, size);
    const x = gentok.map(3, size, size);
    for (let n = 0; n < size * size; n += 1) {
      for (let c = 0; c < 3; c += 1) x.data[c * size * size + n] = data[4 * n + c] / 127.5 - 1;
    }
    return x;
  }

  // --- the tokenizer -----------------------------------------------------------------------------

  async choose() {
    const name = this.at("tokenizer").value;
    this.say("Reading the weights.");
    const weights = await gentok.weights(this.folder, name);
    if (name !== this.at("tokenizer").value) return; // another one was chosen meanwhile
    this.tokenizer = new gentok.TOKENIZERS[CHOICES[name].kind](weights);
    this.discrete = Boolean(this.tokenizer.codebook);
    this.colours = this.discrete && gentok.codeColours(this.tokenizer.codebook);
    const { channels } = this.tokenizer;
    this.at("channels").hidden = this.discrete;
    for (const part of ["channel", "channel-name"]) this.at(part).hidden = this.discrete;
    this.at("bits-name").textContent = this.discrete ? "Bits a code" : "Bits a value";
    this.at("bits").max = this.discrete ? 8 : ALL_BITS;
    this.at("bits").value = ALL_BITS;
    this.at("channel").replaceChildren();
    this.at("boxes").replaceChildren();
    for (let c = 0; c < (this.discrete ? 0 : channels); c += 1) {
      this.at("channel").add(new Option(this.channelName(c), c));
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
      label.append(box, ` ${c + 1}`);
      label.title = this.channelName(c);
      this.at("boxes").append(label);
    }
    for (const part of document.querySelectorAll("[data-keep=low], [data-keep=high]")) {
      part.hidden = !this.tokenizer.lowChannels;
    }
    this.encode();
  }

  channelName(c) {
    const { lowChannels } = this.tokenizer;
    if (!lowChannels) return `${c + 1}`;
    return c < lowChannels ? `${c + 1} (low band)` : `${c + 1} (high bands)`;
  }

  keep(which) {
    const { lowChannels } = this.tokenizer;
    const rules = { all: () => true, none: () => false, low: (c) => c < lowChannels, high: (c) => c >= lowChannels };
    this.at("boxes").querySelectorAll("input").forEach((box, c) => { box.checked = rules[which](c); });
    this.update();
  }

  // --- encode, take away, edit, decode -------------------------------------------------------------

  encode() {
    this.edits.clear();
    this.later(() => {
      this.x = this.pixels(this.tokenizer.size);
      const begun = performance.now();
      this.encoded = this.tokenizer.encode(this.x);
      this.complete = gentok.clamp(this.tokenizer.decode(this.encoded));
      this.milliseconds = performance.now() - begun;
      this.decode();
    });
  }

  update() {
    this.later(() => this.decode());
  }

  // After the page has drawn what it says; of several orders the last is carried out.
  later(action) {
    const turn = ++this.turn;
    this.say("Working.");
    requestAnimationFrame(() => setTimeout(() => {
      if (turn === this.turn) action();
    }));
  }

  get bits() {
    const bits = Number(this.at("bits").value);
    return bits === Number(this.at("bits").max) ? null : bits;
  }

  get kept() {
    return [...this.at("boxes").querySelectorAll("input")].map((box) => box.checked);
  }

  // What the decoder is given: with fewer bits and channels, then with the reader's edits.
  given() {
    let z = this.encoded;
    if (this.discrete) {
      if (this.bits !== null) z = gentok.fewerCodes(z, this.tokenizer.codebook, this.bits);
      z = { ...z, codes: z.codes.slice() };
      for (const [n, value] of this.edits) z.codes[n] = value;
      return z;
    }
    if (this.bits !== null) z = gentok.roundLatents(z, this.bits);
    z = gentok.dropChannels(z, this.kept);
    for (const [n, value] of this.edits) z.data[n] = value;
    return z;
  }

  decode() {
    this.z = this.given();
    this.y = gentok.clamp(this.tokenizer.decode(this.z));
    this.at("bits-now").textContent = this.bits ?? "all";
    this.paint("original", this.x);
    this.paint("decoded", this.y);
    const four = gentok.map(3, this.x.h, this.x.w, this.y.data.map((v, n) => 4 * (v - this.x.data[n])));
    this.paint("error", four);
    this.showErrors();
    this.showCells();
    this.say(`Done. Encoding and decoding took ${(this.milliseconds / 1000).toFixed(1)} seconds.`);
  }

  // --- what is shown -------------------------------------------------------------------------------

  paint(name, x) {
    const canvas = this.at(name);
    canvas.width = x.w;
    canvas.height = x.h;
    const context = canvas.getContext("2d");
    const picture = context.createImageData(x.w, x.h);
    const size = x.h * x.w;
    for (let n = 0; n < size; n += 1) {
      for (let c = 0; c < 3; c += 1) picture.data[4 * n + c] = (x.data[c * size + n] + 1) * 127.5;
      picture.data[4 * n + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
  }

  cost(everything) {
    const bits = everything ? null : this.bits;
    if (this.discrete) return this.encoded.codes.length * (bits ?? Math.log2(this.tokenizer.codebook.shape[0]));
    const kept = everything ? this.tokenizer.channels : this.kept.filter(Boolean).length;
    return kept * this.encoded.h * this.encoded.w * (bits ?? HALF);
  }

  showErrors() {
    const rows = [["all", this.complete, this.cost(true)], ["now", this.y, this.cost(false)]];
    const body = this.at("errors");
    body.replaceChildren();
    for (const [word, y, bits] of rows) {
      const { psnr, LL, LH, HL, HH } = gentok.errors(this.x, y);
      const line = body.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = word;
      line.append(head);
      const numbers = [LL, LH, HL, HH].map((value) => value.toFixed(4));
      for (const text of [psnr.toFixed(1), ...numbers, bits.toLocaleString("en")]) line.insertCell().textContent = text;
    }
  }

  showCells() {
    const { h, w } = this.z;
    const start = this.start0;
    const values = this.discrete ? [] : [...this.encoded.data.subarray(start, start + h * w)];
    this.largest = Math.max(...values.map(Math.abs));
    const inside = [...this.edits.keys()].filter((n) => n >= start && n < start + h * w);
    this.grid.draw(h, w, new Set(inside.map((n) => n - start)));
    this.showValue();
  }

  // Number of the first cell of the channel that is shown.
  get start0() {
    return this.discrete ? 0 : Number(this.at("channel").value) * this.encoded.h * this.encoded.w;
  }

  get cell() {
    return this.start0 + this.grid.at;
  }

  value(n) {
    return this.discrete ? this.z.codes[n] : this.z.data[n];
  }

  colour(n) {
    const value = this.value(this.start0 + n);
    return this.discrete ? this.colours[value] : gentok.diverging(value, this.largest);
  }

  words(n) {
    const value = this.value(this.start0 + n);
    return this.discrete ? `code ${value}` : value.toFixed(2);
  }

  showValue() {
    const value = this.value(this.cell);
    this.at("value").value = this.discrete ? value : value.toFixed(3);
  }

  step(n, direction) {
    const size = this.discrete ? 1 : this.largest / 4;
    this.edit(this.start0 + n, this.value(this.start0 + n) + direction * size);
  }

  edit(n, value) {
    if (!Number.isFinite(value)) return;
    const last = this.discrete ? this.tokenizer.codebook.shape[0] - 1 : 0;
    this.edits.set(n, this.discrete ? Math.min(last, Math.max(0, Math.round(value))) : value);
    this.update();
  }
}

// --- sound -----------------------------------------------------------------------------------------

class SoundPlayground {
  constructor(root) {
    this.root = root;
    this.folder = root.dataset.scripts;
    this.at = (name) => root.querySelector(`#pg-${name}`);
    this.edits = new Map();
    this.grid = new gentok.Grid(this.at("sound-grid"), {
      colour: (n) => this.colours[Math.floor(n / this.codes.w)][this.code(n)],
      words: (n) => `code ${this.code(n)}`,
      step: (n, direction) => this.edit(n, this.code(n) + direction),
      chosen: () => this.showValue(),
      enter: () => this.at("sound-value").focus(),
    });
    const on = (name, event, action) => this.at(name).addEventListener(event, action);
    on("sound-file", "change", (event) => this.openFile(event.target.files[0]));
    on("sound-example", "click", () => this.openExample());
    on("levels", "input", () => this.update());
    on("play-original", "click", () => this.play(this.wave));
    on("play-decoded", "click", () => this.playDecoded());
    on("sound-value", "change", () => this.edit(this.grid.at, Number(this.at("sound-value").value)));
    on("sound-reset", "click", () => { this.edits.clear(); this.update(); });
    root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  }

  say(text) {
    this.at("sound-status").textContent = text;
  }

  async start() {
    this.codec = new gentok.SpectralCodec(await gentok.weights(this.folder, "codec"));
    this.colours = this.codec.codebooks.map(gentok.codeColours);
    await this.openExample();
  }

  async openExample() {
    const text = gentok.exampleSound.split(",")[1];
    await this.open(gentok.fromBase64(text).buffer, "the example");
  }

  async openFile(file) {
    if (file) await this.open(await file.arrayBuffer(), file.name);
  }

  // Any sound that the browser can read, at the codec's rate, one channel, its first 1.5 seconds.
  async open(bytes, name) {
    const { rate } = this.codec.config;
    try {
      const sound = await new OfflineAudioContext(1, rate, rate).decodeAudioData(bytes);
      const wave = new Float64Array(1.5 * rate);
      for (let c = 0; c < sound.numberOfChannels; c += 1) {
        sound.getChannelData(c).subarray(0, wave.length).forEach((value, n) => {
          wave[n] += value / sound.numberOfChannels;
        });
      }
      this.wave = wave;
    } catch {
      this.say(`${name} is no sound that this browser can read.`);
      return;
    }
    this.edits.clear();
    this.picture = this.codec.picture(this.wave);
    this.codes = this.codec.encode(this.wave);
    this.update();
  }

  get levels() {
    return Number(this.at("levels").value);
  }

  code(n) {
    return this.edits.get(n) ?? this.codes.codes[n];
  }

  update() {
    const codes = this.codes.codes.map((_, n) => this.code(n));
    this.said = this.codec.decodePicture({ ...this.codes, codes }, this.levels);
    this.heard = null;
    this.at("levels-now").textContent = this.levels;
    this.paint("sound-original", this.picture);
    this.paint("sound-decoded", this.said);
    this.grid.draw(this.codes.h, this.codes.w, new Set(this.edits.keys()));
    this.grid.cells.forEach((cell, n) => cell.classList.toggle("pg-off", n >= this.levels * this.codes.w));
    this.showValue();
    const bits = this.levels * this.codes.w * Math.log2(this.codec.config.codebook_size);
    this.say(`${bits.toLocaleString("en")} bits for 1.5 seconds; the error of the spectrum is ${(100 * this.error()).toFixed(0)} % of its variance.`);
  }

  error() {
    const { data } = this.picture;
    const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
    let [missed, variance] = [0, 0];
    data.forEach((value, n) => {
      missed += (value - this.said.data[n]) ** 2;
      variance += (value - mean) ** 2;
    });
    return variance > 0 ? missed / variance : 0;
  }

  paint(name, picture) {
    const canvas = this.at(name);
    canvas.width = picture.w;
    canvas.height = picture.c;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(picture.w, picture.c);
    const largest = Math.max(...this.picture.data, 1e-6);
    for (let n = 0; n < picture.data.length; n += 1) {
      const [bin, frame] = [Math.floor(n / picture.w), n % picture.w];
      const at = 4 * ((picture.c - 1 - bin) * picture.w + frame);
      pixels.data.fill(255 * (1 - picture.data[n] / largest), at, at + 3);
      pixels.data[at + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
  }

  showValue() {
    this.at("sound-value").value = this.code(this.grid.at);
  }

  edit(n, value) {
    const last = this.codec.config.codebook_size - 1;
    if (!Number.isFinite(value)) return;
    this.edits.set(n, Math.min(last, Math.max(0, Math.round(value))));
    this.update();
  }

  playDecoded() {
    const words = this.at("sound-status").textContent;
    if (!this.heard) this.say("Finding phases.");
    requestAnimationFrame(() => setTimeout(() => {
      this.heard ??= this.codec.hear(this.said);
      this.say(words);
      this.play(this.heard);
    }));
  }

  play(wave) {
    this.context ??= new AudioContext();
    this.source?.stop();
    const buffer = this.context.createBuffer(1, wave.length, this.codec.config.rate);
    buffer.getChannelData(0).set(wave);
    this.source = this.context.createBufferSource();
    this.source.buffer = buffer;
    this.source.connect(this.context.destination);
    this.source.start();
  }
}

document.addEventListener("DOMContentLoaded", async () => {
  const pictures = document.getElementById("picture-playground");
  if (!pictures) return;
  gentok.pictures = new Playground(pictures);
  await gentok.pictures.start();
  gentok.sounds = new SoundPlayground(document.getElementById("sound-playground"));
  await gentok.sounds.start();
});
