// The layers of gentok.nn.conv, for one picture: the same names, the same arithmetic.
"use strict";

const EPSILON = 1e-6; // of every GroupNorm in the book's convolutional networks

// Zeros around a map.
function pad(x, top, left, bottom, right) {
  const out = gentok.map(x.c, x.h + top + bottom, x.w + left + right);
  for (let row = 0; row < x.c * x.h; row += 1) {
    const plane = Math.floor(row / x.h);
    const start = (plane * out.h + (row % x.h) + top) * out.w + left;
    out.data.set(x.data.subarray(row * x.w, (row + 1) * x.w), start);
  }
  return out;
}

// A convolution without padding. Weights (O, I, k, k); k is 1 or 3.
function conv2d(x, weight, bias, stride = 1) {
  const [outs, ins, k] = weight.shape;
  const out = gentok.map(outs, Math.floor((x.h - k) / stride) + 1, Math.floor((x.w - k) / stride) + 1);
  const { data } = x;
  for (let o = 0; o < outs; o += 1) {
    const plane = out.data.subarray(o * out.h * out.w, (o + 1) * out.h * out.w).fill(bias.data[o]);
    for (let i = 0; i < ins; i += 1) {
      const taps = weight.data.subarray((o * ins + i) * k * k, (o * ins + i + 1) * k * k);
      if (k === 1) addOne(plane, data, i * x.h * x.w, taps[0]);
      else addNine(plane, out, data, i * x.h * x.w, x.w, taps, stride);
    }
  }
  return out;
}

function addOne(plane, data, start, tap) {
  for (let n = 0; n < plane.length; n += 1) plane[n] += tap * data[start + n];
}

// All nine products in one pass: reading and writing the sum costs more than the arithmetic.
function addNine(plane, { h, w }, data, start, width, taps, stride) {
  const [a, b, c, d, e, f, g, p, q] = taps;
  for (let y = 0; y < h; y += 1) {
    let top = start + y * stride * width;
    let middle = top + width;
    let bottom = middle + width;
    for (let n = y * w; n < (y + 1) * w; n += 1) {
      plane[n] +=
        a * data[top] + b * data[top + 1] + c * data[top + 2] +
        d * data[middle] + e * data[middle + 1] + f * data[middle + 2] +
        g * data[bottom] + p * data[bottom + 1] + q * data[bottom + 2];
      top += stride;
      middle += stride;
      bottom += stride;
    }
  }
}

function groupNorm(x, weight, bias, groups) {
  const out = gentok.map(x.c, x.h, x.w);
  const plane = x.h * x.w;
  const size = (x.c / groups) * plane;
  for (let group = 0; group < groups; group += 1) {
    let sum = 0;
    let squares = 0;
    for (let n = group * size; n < (group + 1) * size; n += 1) sum += x.data[n];
    const mean = sum / size;
    for (let n = group * size; n < (group + 1) * size; n += 1) squares += (x.data[n] - mean) ** 2;
    const scale = 1 / Math.sqrt(squares / size + EPSILON);
    for (let n = group * size; n < (group + 1) * size; n += 1) {
      const channel = Math.floor(n / plane);
      out.data[n] = (x.data[n] - mean) * scale * weight.data[channel] + bias.data[channel];
    }
  }
  return out;
}

function silu(x) {
  for (let n = 0; n < x.data.length; n += 1) x.data[n] /= 1 + Math.exp(-x.data[n]);
  return x;
}

function add(x, y) {
  for (let n = 0; n < x.data.length; n += 1) x.data[n] += y.data[n];
  return x;
}

function upsample(x) {
  const out = gentok.map(x.c, 2 * x.h, 2 * x.w);
  for (let row = 0; row < x.c * out.h; row += 1) {
    const from = (Math.floor(row / out.h) * x.h + Math.floor((row % out.h) / 2)) * x.w;
    for (let n = 0; n < out.w; n += 1) out.data[row * out.w + n] = x.data[from + (n >> 1)];
  }
  return out;
}

// Rows (N, D) times weights (O, D) + bias -> (N, O).
function linear(rows, count, { data, shape: [outs, dim] }, bias) {
  const out = new Float32Array(count * outs);
  for (let n = 0; n < count; n += 1) {
    for (let o = 0; o < outs; o += 1) {
      let sum = bias.data[o];
      for (let d = 0; d < dim; d += 1) sum += rows[n * dim + d] * data[o * dim + d];
      out[n * outs + o] = sum;
    }
  }
  return out;
}

// A network's layers, by the names that its tensors have in PyTorch.
class Network {
  constructor(tensors, prefix, groups) {
    Object.assign(this, { tensors, prefix, groups });
  }

  has(name) {
    return `${this.prefix}${name}` in this.tensors;
  }

  get(name) {
    const found = this.tensors[`${this.prefix}${name}`];
    if (!found) throw new Error(`no weights ${this.prefix}${name}`);
    return found;
  }

  conv(x, name, stride = 1) {
    const weight = this.get(`${name}.weight`);
    const padded = weight.shape[2] === 3 && stride === 1 ? pad(x, 1, 1, 1, 1) : x;
    return conv2d(padded, weight, this.get(`${name}.bias`), stride);
  }

  norm(x, name) {
    return groupNorm(x, this.get(`${name}.weight`), this.get(`${name}.bias`), this.groups);
  }

  resBlock(x, name) {
    const half = this.conv(silu(this.norm(x, `${name}.norm1`)), `${name}.conv1`);
    const out = this.conv(silu(this.norm(half, `${name}.norm2`)), `${name}.conv2`);
    return add(out, this.has(`${name}.skip.weight`) ? this.conv(x, `${name}.skip`) : x);
  }

  // One head of self-attention over all positions.
  attention(x, name) {
    const normed = this.norm(x, `${name}.norm`);
    const count = x.h * x.w;
    const rows = transpose(normed.data, x.c, count);
    const qkv = linear(rows, count, this.get(`${name}.qkv.weight`), this.get(`${name}.qkv.bias`));
    const mixed = attend(qkv, count, x.c);
    const out = linear(mixed, count, this.get(`${name}.proj.weight`), this.get(`${name}.proj.bias`));
    return add(gentok.map(x.c, x.h, x.w, transpose(out, count, x.c)), x);
  }

  middle(x) {
    return this.resBlock(this.attention(this.resBlock(x, "middle.0"), "middle.1"), "middle.2");
  }

  // Stages in order; `resize` does what halves (encoder) or doubles (decoder).
  stages(x, resize) {
    for (let n = 0; ; n += 1) {
      const name = `stages.${n}`;
      if (this.has(`${name}.conv1.weight`)) x = this.resBlock(x, name);
      else if (this.has(`${name}.qkv.weight`)) x = this.attention(x, name);
      else if (this.has(`${name}.conv.weight`)) x = resize(x, `${name}.conv`);
      else return x;
    }
  }

  end(x) {
    return this.conv(silu(this.norm(x, "norm_out")), "conv_out");
  }

  encode(x) {
    const down = (map, name) => this.conv(pad(map, 0, 0, 1, 1), name, 2);
    return this.end(this.middle(this.stages(this.conv(x, "conv_in"), down)));
  }

  decode(z) {
    const up = (map, name) => this.conv(upsample(map), name);
    return this.end(this.stages(this.middle(this.conv(z, "conv_in")), up));
  }
}

function transpose(data, rows, columns) {
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r += 1) {
    for (let c = 0; c < columns; c += 1) out[c * rows + r] = data[r * columns + c];
  }
  return out;
}

// softmax(q k^T / sqrt(C)) v, rows [q; k; v] of 3 C numbers.
function attend(qkv, count, dim) {
  const out = new Float32Array(count * dim);
  const scores = new Float64Array(count);
  for (let n = 0; n < count; n += 1) {
    let largest = -Infinity;
    for (let m = 0; m < count; m += 1) {
      let sum = 0;
      for (let d = 0; d < dim; d += 1) sum += qkv[n * 3 * dim + d] * qkv[m * 3 * dim + dim + d];
      scores[m] = sum / Math.sqrt(dim);
      largest = Math.max(largest, scores[m]);
    }
    let total = 0;
    for (let m = 0; m < count; m += 1) total += scores[m] = Math.exp(scores[m] - largest);
    for (let m = 0; m < count; m += 1) {
      const share = scores[m] / total;
      for (let d = 0; d < dim; d += 1) out[n * dim + d] += share * qkv[m * 3 * dim + 2 * dim + d];
    }
  }
  return out;
}

gentok.Network = Network;
