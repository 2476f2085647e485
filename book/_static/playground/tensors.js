// Tensors in typed arrays, and the reader of safetensors files that are kept as text.
// A feature map is {data: Float32Array, c, h, w}: channels, rows, columns, in this order.
"use strict";
window.gentok = window.gentok || {};

gentok.map = (c, h, w, data = new Float32Array(c * h * w)) => ({ data, c, h, w });

// Half precision -> single: sign, five bits of exponent, ten of fraction.
gentok.fromHalf = (bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  if (exponent === 0) return sign * fraction * 2 ** -14;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction) * 2 ** (exponent - 15);
};

gentok.fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// A safetensors file: the header's length (8 bytes), the header in JSON, the numbers.
gentok.readSafetensors = (bytes) => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const config = JSON.parse(header.__metadata__?.config || "{}");
  const tensors = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    if (entry.dtype !== "F16") throw new Error(`${name} is ${entry.dtype}, not F16`);
    const [start, end] = entry.data_offsets;
    const data = new Float32Array((end - start) / 2);
    for (let i = 0; i < data.length; i += 1) {
      data[i] = gentok.fromHalf(view.getUint16(8 + length + start + 2 * i, true));
    }
    tensors[name] = { data, shape: entry.shape };
  }
  return { config, tensors };
};

// From file:// a page may not fetch, but it may add a script: each puts one file's text here.
gentok.weightFiles = {};
gentok.addScript = (address) =>
  new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = done;
    script.onerror = () => failed(new Error(`${address} cannot be read`));
    document.head.append(script);
  });

const loaded = {};
gentok.weights = (folder, name) => {
  loaded[name] ??= gentok.addScript(`${folder}/weights/${name}.js`).then(() => {
    const text = gentok.weightFiles[name];
    delete gentok.weightFiles[name];
    return gentok.readSafetensors(gentok.fromBase64(text));
  });
  return loaded[name];
};
