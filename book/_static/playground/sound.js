// The residual codec of sound, gentok.signals.mert.spectral_codec: codes of spectra, and phases by
// the method of Griffin and Lim. A spectrum is {re, im: Float64Array, bins, frames}, frame by frame.
"use strict";

const tables = {};
const turns = (size) =>
  (tables[size] ??= Array.from({ length: size / 2 }, (_, k) => [
    Math.cos((2 * Math.PI * k) / size),
    Math.sin((2 * Math.PI * k) / size),
  ]));

// In place, radix 2; `sign` is -1 for the transform and 1 for its inverse (not divided by N).
function fft(re, im, sign) {
  const size = re.length;
  const table = turns(size);
  for (let i = 1, j = 0; i < size; i += 1) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let length = 2; length <= size; length <<= 1) {
    const half = length >> 1;
    for (let k = 0; k < half; k += 1) {
      const [c, sine] = table[(k * size) / length];
      const s = sign * sine;
      for (let a = k; a < size; a += length) {
        const b = a + half;
        const [x, y] = [re[b] * c - im[b] * s, re[b] * s + im[b] * c];
        [re[b], im[b]] = [re[a] - x, im[a] - y];
        re[a] += x;
        im[a] += y;
      }
    }
  }
}

const hann = (size) =>
  Float64Array.from({ length: size }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / size));

// A wave mirrored at both ends, n samples each.
function mirrored(wave, n) {
  const out = new Float64Array(wave.length + 2 * n);
  for (let i = 0; i < out.length; i += 1) {
    let at = Math.abs(i - n);
    if (at >= wave.length) at = 2 * (wave.length - 1) - at;
    out[i] = wave[at];
  }
  return out;
}

function stft(wave, window, hop) {
  const size = window.length;
  const bins = size / 2 + 1;
  const padded = mirrored(wave, size / 2);
  const frames = 1 + Math.floor(wave.length / hop);
  const out = { bins, frames, re: new Float64Array(bins * frames), im: new Float64Array(bins * frames) };
  for (let t = 0; t < frames; t += 1) {
    const re = Float64Array.from(window, (value, n) => value * padded[t * hop + n]);
    const im = new Float64Array(size);
    fft(re, im, -1);
    out.re.set(re.subarray(0, bins), t * bins);
    out.im.set(im.subarray(0, bins), t * bins);
  }
  return out;
}

// The sound whose spectrum comes closest: overlapping frames, weighted by the window.
function istft({ re, im, bins, frames }, window, hop) {
  const size = window.length;
  const sum = new Float64Array((frames - 1) * hop + size);
  const weight = new Float64Array(sum.length);
  for (let t = 0; t < frames; t += 1) {
    const [real, imaginary] = [new Float64Array(size), new Float64Array(size)];
    for (let k = 0; k < bins; k += 1) {
      real[k] = re[t * bins + k];
      imaginary[k] = k === 0 || k === bins - 1 ? 0 : im[t * bins + k];
      if (k > 0 && k < bins - 1) {
        real[size - k] = real[k];
        imaginary[size - k] = -imaginary[k];
      }
    }
    fft(real, imaginary, 1);
    for (let n = 0; n < size; n += 1) {
      sum[t * hop + n] += (real[n] / size) * window[n];
      weight[t * hop + n] += window[n] ** 2;
    }
  }
  const length = (frames - 1) * hop;
  return Float64Array.from({ length }, (_, n) => sum[n + size / 2] / weight[n + size / 2]);
}

// Magnitudes, frame by frame -> a wave. The first phases are random, and always the same.
function griffinLim({ data, bins, frames }, window, hop, steps, momentum = 0.99) {
  let state = 1;
  const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
  const spectrum = { bins, frames, re: new Float64Array(data.length), im: new Float64Array(data.length) };
  data.forEach((value, n) => {
    const angle = 2 * Math.PI * random();
    spectrum.re[n] = value * Math.cos(angle);
    spectrum.im[n] = value * Math.sin(angle);
  });
  let before = null;
  for (let step = 0; step < steps; step += 1) {
    const found = stft(istft(spectrum, window, hop), window, hop);
    for (let n = 0; n < data.length; n += 1) {
      let [x, y] = [found.re[n], found.im[n]];
      if (before) {
        x += momentum * (x - before.re[n]);
        y += momentum * (y - before.im[n]);
      }
      const size = Math.max(Math.hypot(x, y), 1e-8);
      spectrum.re[n] = (data[n] * x) / size;
      spectrum.im[n] = (data[n] * y) / size;
    }
    before = found;
  }
  return istft(spectrum, window, hop);
}

// GELU by the error function (Abramowitz and Stegun 7.1.26, off by at most 1.5e-7).
function gelu(x) {
  const a = Math.abs(x) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * a);
  const poly =
    t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const erf = Math.sign(x) * (1 - poly * Math.exp(-a * a));
  return 0.5 * x * (1 + erf);
}

// A convolution over time that keeps the length; x is a map of one row. Weights (O, I, k).
function conv1d(x, weight, bias) {
  const [outs, ins, k] = weight.shape;
  const out = gentok.map(outs, 1, x.w);
  for (let o = 0; o < outs; o += 1) {
    const row = out.data.subarray(o * x.w, (o + 1) * x.w).fill(bias.data[o]);
    for (let i = 0; i < ins; i += 1) {
      for (let tap = 0; tap < k; tap += 1) {
        const value = weight.data[(o * ins + i) * k + tap];
        const shift = tap - (k - 1) / 2;
        const last = Math.min(x.w, x.w - shift);
        for (let t = Math.max(0, -shift); t < last; t += 1) row[t] += value * x.data[i * x.w + t + shift];
      }
    }
  }
  return out;
}

class SpectralCodec {
  constructor({ config, tensors }) {
    this.config = config;
    this.tensors = tensors;
    this.norm = gentok.batchNorm(tensors, "norm");
    this.window = hann(config.window);
    this.windowSum = this.window.reduce((sum, value) => sum + value, 0);
    this.codebooks = Array.from(
      { length: config.num_codebooks },
      (_, level) => tensors[`quantizer.levels.${level}.codebook`],
    );
  }

  conv(x, name) {
    return conv1d(x, this.tensors[`${name}.weight`], this.tensors[`${name}.bias`]);
  }

  half(x, name) {
    const bent = (map) => gentok.map(map.c, 1, map.w, map.data.map(gelu));
    const { depth } = this.config;
    x = this.conv(x, `${name}.0`);
    for (let unit = 1; unit <= depth; unit += 1) {
      const inner = bent(this.conv(bent(x), `${name}.${unit}.conv1`));
      const step = this.conv(inner, `${name}.${unit}.conv2`);
      x = gentok.map(x.c, 1, x.w, x.data.map((value, n) => value + step.data[n]));
    }
    return this.conv(bent(x), `${name}.${depth + 2}`);
  }

  // log10(1 + amplitude / floor), a map of F channels and T columns.
  picture(wave) {
    const { hop, floor } = this.config;
    const { re, im, bins, frames } = stft(wave, this.window, hop);
    const out = gentok.map(bins, 1, frames);
    for (let n = 0; n < re.length; n += 1) {
      const amplitude = (Math.hypot(re[n], im[n]) * 2) / this.windowSum;
      out.data[(n % bins) * frames + Math.floor(n / bins)] = Math.log10(1 + amplitude / floor);
    }
    return out;
  }

  // Codes level by level: {codes: Int32Array of Q T, h: Q, w: T}.
  encode(wave) {
    const z = this.norm(this.half(this.picture(wave), "encoder"));
    const codes = new Int32Array(this.codebooks.length * z.w);
    for (let t = 0; t < z.w; t += 1) {
      const rest = Float32Array.from({ length: z.c }, (_, d) => z.data[d * z.w + t]);
      this.codebooks.forEach((codebook, level) => {
        const code = gentok.nearest(rest, codebook);
        codes[level * z.w + t] = code;
        for (let d = 0; d < z.c; d += 1) rest[d] -= codebook.data[code * z.c + d];
      });
    }
    return { codes, h: this.codebooks.length, w: z.w };
  }

  // The picture that the first `levels` codes of each frame say, not below 0.
  decodePicture({ codes, w }, levels = this.codebooks.length) {
    const { dim } = this.config;
    const z = gentok.map(dim, 1, w);
    for (let level = 0; level < levels; level += 1) {
      for (let t = 0; t < w; t += 1) {
        const start = codes[level * w + t] * dim;
        for (let d = 0; d < dim; d += 1) z.data[d * w + t] += this.codebooks[level].data[start + d];
      }
    }
    const out = this.half(z, "decoder");
    return gentok.map(out.c, 1, w, out.data.map((value) => Math.max(0, value)));
  }

  // A picture -> a wave of (T - 1) hop samples.
  hear(picture) {
    const { floor, hop, num_steps: steps } = this.config;
    const magnitude = { bins: picture.c, frames: picture.w, data: new Float64Array(picture.data.length) };
    picture.data.forEach((value, n) => {
      const [bin, frame] = [Math.floor(n / picture.w), n % picture.w];
      const amplitude = floor * (10 ** value - 1);
      magnitude.data[frame * picture.c + bin] = (amplitude * this.windowSum) / 2;
    });
    return griffinLim(magnitude, this.window, hop, steps);
  }
}

gentok.SpectralCodec = SpectralCodec;
