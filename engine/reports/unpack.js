// What a page does with numbers, apart from drawing them: unpacking, shares of a pixel, thinning of markers.
'use strict';
const numbers = (() => {
  // The inverse of Columns.pack: `raw` is the Uint8Array that gunzip gave.
  const unpack = raw => {
    const head = 4 + new DataView(raw.buffer, raw.byteOffset).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(raw.subarray(4, head)));
    const columns = {};
    let start = head;
    for (const [name, c] of Object.entries(header.columns)) {
      const n = c.length;
      const values = new Float64Array(n);
      let whole = c.first;
      for (let i = 0; i < n; i++) {
        let step = (raw[start + (c.width - 1) * n + i] << 24) >> 24;
        for (let plane = c.width - 2; plane >= 0; plane--) step = step * 256 + raw[start + plane * n + i];
        whole += step;
        values[i] = whole * c.scale / c.over;
      }
      for (let k = 0; k < c.unknown.length; k += 2) values.fill(NaN, c.unknown[k], c.unknown[k + 1]);
      start += n * c.width;
      columns[name] = values;
    }
    return {about: header.about, columns};
  };

  // Columns that follow from others and need no room in the file.
  const derive = {
    difference: (columns, a, b) => columns[a].map((value, i) => value - columns[b][i]),
    positive: (columns, a) => columns[a].map(value => Math.max(value, 0)),
    exponential: (columns, a) => columns[a].map(Math.exp),
    exponential: (columns, a) => columns[a].map(Math.exp),
    negative: (columns, a) => columns[a].map(value => Math.min(value, 0)),
    // Per cent under the highest equity so far; `worst` says how far below it was marked within the bar.
    drawdown: (columns, a, worst, starting) => {
      let peak = starting;
      return columns[a].map((value, i) => {
        const low = worst ? value - columns[worst][i] : value;
        const under = 100 * (low / peak - 1);
        if (value > peak) peak = value;
        return Math.min(under, 0);
      });
    },
    // Equity of holding `quantity` contracts since the first price; nothing from where nothing was left.
    holding: (columns, price, received, starting, quantity, multiplier, inverse) => {
      const worth = p => (inverse ? -multiplier / p : multiplier * p);
      const first = columns[price].find(p => p > 0);
      let gone = false;
      return columns[price].map((p, i) => {
        const left = starting + quantity * (worth(p) - worth(first)) + columns[received][i];
        gone = gone || left <= 0;
        return gone ? 0 : left;
      });
    },
  };

  // How much of each of `width` pixels between `low` and `high` each of `kinds` codes holds, by time: every
  // bar counts with its length, so a state of two per cent keeps its two per cent however coarse the picture.
  // `weigh(i, add)` says of bar i what it holds: add(kind, weight).
  const shares = (ts, kinds, weigh, low, high, width) => {
    const out = new Float64Array(width * kinds);
    const scale = width / (high - low);
    const n = ts.length;
    let from = 0;
    let to = n;
    while (from < to) {
      const middle = (from + to) >> 1;
      if (ts[middle] <= low) from = middle + 1;
      else to = middle;
    }
    for (let i = Math.max(0, from - 1); i < n && ts[i] < high; i++) {
      const end = i + 1 < n ? ts[i + 1] : ts[i] + (n > 1 ? ts[i] - ts[i - 1] : 1);
      const a = Math.max(0, (ts[i] - low) * scale);
      const b = Math.min(width, (end - low) * scale);
      for (let p = Math.floor(a); p < b; p++) {
        const part = Math.min(p + 1, b) - Math.max(p, a);
        weigh(i, (kind, weight) => { out[p * kinds + kind] += part * weight; });
      }
    }
    return out;
  };

  // Of markers at (x, y) in pixels, one a cell of `size` pixels and kind: the largest. Returns indices.
  const thin = (x, y, kind, weight, size) => {
    const best = new Map();
    for (let i = 0; i < x.length; i++) {
      const cell = `${Math.floor(x[i] / size)},${Math.floor(y[i] / size)},${kind[i]}`;
      const other = best.get(cell);
      if (other === undefined || weight[i] > weight[other]) best.set(cell, i);
    }
    return [...best.values()].sort((a, b) => a - b);
  };

  return {unpack, derive, shares, thin};
})();
if (typeof module !== 'undefined') module.exports = numbers;
