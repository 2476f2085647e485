// The one-level Haar transform of gentok.nn.wavelet, and what an error holds in each band.
"use strict";

// A map of C channels -> {low: C channels, high: [LH, HL, HH], 3 C channels}, half as large.
gentok.haar = (x) => {
  const [h, w] = [x.h / 2, x.w / 2];
  const low = gentok.map(x.c, h, w);
  const high = gentok.map(3 * x.c, h, w);
  const size = x.c * h * w;
  for (let n = 0; n < size; n += 1) {
    const row = Math.floor(n / w);
    const start = 2 * row * x.w + 2 * (n % w);
    const [a, b] = [x.data[start], x.data[start + 1]];
    const [c, d] = [x.data[start + x.w], x.data[start + x.w + 1]];
    low.data[n] = (a + b + c + d) / 2;
    high.data[n] = (a + b - c - d) / 2;
    high.data[size + n] = (a - b + c - d) / 2;
    high.data[2 * size + n] = (a - b - c + d) / 2;
  }
  return { low, high };
};

gentok.inverseHaar = (low, high) => {
  const x = gentok.map(low.c, 2 * low.h, 2 * low.w);
  const size = low.data.length;
  for (let n = 0; n < size; n += 1) {
    const start = 2 * Math.floor(n / low.w) * x.w + 2 * (n % low.w);
    const [ll, lh] = [low.data[n], high.data[n]];
    const [hl, hh] = [high.data[size + n], high.data[2 * size + n]];
    x.data[start] = (ll + lh + hl + hh) / 2;
    x.data[start + 1] = (ll + lh - hl - hh) / 2;
    x.data[start + x.w] = (ll - lh + hl - hh) / 2;
    x.data[start + x.w + 1] = (ll - lh - hl + hh) / 2;
  }
  return x;
};

const meanSquare = (data) => data.reduce((sum, value) => sum + value * value, 0) / data.length;

// Mean squared error of each band, and PSNR in dB; pictures in [-1, 1].
gentok.errors = (x, y) => {
  const residual = gentok.map(x.c, x.h, x.w, x.data.map((value, n) => value - y.data[n]));
  const { low, high } = gentok.haar(residual);
  const size = low.data.length;
  const band = (n) => meanSquare(high.data.subarray(n * size, (n + 1) * size));
  const bands = { LL: meanSquare(low.data), LH: band(0), HL: band(1), HH: band(2) };
  return { ...bands, psnr: 10 * Math.log10(4 / Math.max(meanSquare(residual.data), 1e-12)) };
};

gentok.clamp = (x) =>
  gentok.map(x.c, x.h, x.w, x.data.map((value) => Math.min(1, Math.max(-1, value))));
