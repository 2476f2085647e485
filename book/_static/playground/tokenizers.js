// Tokenizers of pictures: encode(picture) gives latents or codes, decode(...) a picture.
// Pictures are maps of three channels in [-1, 1]; latents are maps; codes are {codes, h, w}.
"use strict";

const LOW_SCALE = 2; // of gentok.latents.fa_vae
const HIGH_SCALE = 4;

const scaled = (x, factor) => gentok.map(x.c, x.h, x.w, x.data.map((value) => value * factor));
const channels = (x, from, to) =>
  gentok.map(to - from, x.h, x.w, x.data.slice(from * x.h * x.w, to * x.h * x.w));
function joined(x, y) {
  const out = gentok.map(x.c + y.c, x.h, x.w);
  out.data.set(x.data);
  out.data.set(y.data, x.data.length);
  return out;
}

class KLVAE {
  constructor({ config, tensors }, prefix = "") {
    this.size = config.image_size;
    this.channels = config.latent_channels;
    const part = (name) => new gentok.Network(tensors, `${prefix}${name}`, config.groups);
    this.parts = { whole: part(""), encoder: part("encoder."), decoder: part("decoder.") };
  }

  convIfThere(x, name) {
    const { whole } = this.parts;
    return whole.has(`${name}.weight`) ? whole.conv(x, name) : x;
  }

  // The mean of the posterior: the first half of the moments.
  encode(x) {
    const moments = this.convIfThere(this.parts.encoder.encode(x), "quant_conv");
    return channels(moments, 0, this.channels);
  }

  decode(z) {
    return this.parts.decoder.decode(this.convIfThere(z, "post_quant_conv"));
  }
}

class FAVAE {
  constructor({ config, tensors }) {
    this.size = 2 * config.low.image_size;
    this.low = new KLVAE({ config: config.low, tensors }, "low.");
    this.high = new KLVAE({ config: config.high, tensors }, "high.");
    this.lowChannels = this.low.channels;
    this.channels = this.low.channels + this.high.channels;
  }

  encode(x) {
    const { low, high } = gentok.haar(x);
    const ends = [scaled(low, 1 / LOW_SCALE), scaled(high, HIGH_SCALE)];
    return joined(this.low.encode(ends[0]), this.high.encode(ends[1]));
  }

  decode(z) {
    const low = this.low.decode(channels(z, 0, this.lowChannels));
    const high = this.high.decode(channels(z, this.lowChannels, this.channels));
    return gentok.inverseHaar(scaled(low, LOW_SCALE), scaled(high, 1 / HIGH_SCALE));
  }
}

class VQGAN {
  constructor({ config, tensors }) {
    this.size = config.image_size;
    const part = (name) => new gentok.Network(tensors, name, config.groups);
    this.parts = { whole: part(""), encoder: part("encoder."), decoder: part("decoder.") };
    this.scale = gentok.batchNorm(tensors, "scale");
    this.codebook = tensors["quantizer.codebook"];
  }

  encode(x) {
    const z = this.scale(this.parts.whole.conv(this.parts.encoder.encode(x), "before"));
    const size = z.h * z.w;
    const codes = new Int32Array(size);
    for (let n = 0; n < size; n += 1) {
      const latent = Float32Array.from({ length: z.c }, (_, d) => z.data[d * size + n]);
      codes[n] = gentok.nearest(latent, this.codebook);
    }
    return { codes, h: z.h, w: z.w };
  }

  decode({ codes, h, w }) {
    const [, dim] = this.codebook.shape;
    const z = gentok.map(dim, h, w);
    for (let d = 0; d < dim; d += 1) {
      for (let n = 0; n < h * w; n += 1) z.data[d * h * w + n] = this.codebook.data[codes[n] * dim + d];
    }
    return this.parts.decoder.decode(this.parts.whole.conv(z, "after"));
  }
}

// A batch norm without weights, at rest: (x - mean) / sqrt(variance + 1e-5) of each channel.
gentok.batchNorm = (tensors, name) => (x) => {
  const size = x.data.length / x.c;
  const [mean, variance] = ["mean", "var"].map((key) => tensors[`${name}.running_${key}`].data);
  const at = (value, n) => {
    const channel = Math.floor(n / size);
    return (value - mean[channel]) / Math.sqrt(variance[channel] + 1e-5);
  };
  return gentok.map(x.c, x.h, x.w, x.data.map(at));
};

// Index of the nearest row of a codebook (K, D), among the rows that are allowed.
gentok.nearest = (latent, { data, shape: [size, dim] }, allowed = null) => {
  let best = -1;
  let least = Infinity;
  for (let k = 0; k < size; k += 1) {
    if (allowed && !allowed.has(k)) continue;
    let distance = 0;
    for (let d = 0; d < dim; d += 1) distance += (latent[d] - data[k * dim + d]) ** 2;
    if (distance < least) [best, least] = [k, distance];
  }
  return best;
};

// --- what is taken away --------------------------------------------------------------------------

// Latents on 2^bits levels from the least to the largest value of each channel.
gentok.roundLatents = (z, bits) => {
  const out = gentok.map(z.c, z.h, z.w, z.data.slice());
  const size = z.h * z.w;
  const steps = 2 ** bits - 1;
  for (let c = 0; c < z.c; c += 1) {
    const values = out.data.subarray(c * size, (c + 1) * size);
    const low = Math.min(...values);
    const range = Math.max(...values) - low;
    if (range === 0) continue;
    values.forEach((value, n) => {
      values[n] = low + (Math.round(((value - low) / range) * steps) / steps) * range;
    });
  }
  return out;
};

// Channels that are not kept become 0, the mean of the prior.
gentok.dropChannels = (z, kept) => {
  const out = gentok.map(z.c, z.h, z.w, z.data.slice());
  const size = z.h * z.w;
  for (let c = 0; c < z.c; c += 1) if (!kept[c]) out.data.fill(0, c * size, (c + 1) * size);
  return out;
};

// The picture's 2^bits most frequent codes stay; every other becomes the nearest of them.
gentok.fewerCodes = ({ codes, h, w }, codebook, bits) => {
  const counts = new Map();
  for (const code of codes) counts.set(code, (counts.get(code) || 0) + 1);
  const frequent = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const kept = new Set(frequent.slice(0, 2 ** bits).map(([code]) => code));
  const dim = codebook.shape[1];
  const at = (code) =>
    kept.has(code)
      ? code
      : gentok.nearest(codebook.data.subarray(code * dim, (code + 1) * dim), codebook, kept);
  return { codes: codes.map(at), h, w };
};

gentok.TOKENIZERS = { KLVAE, FAVAE, VQGAN };
