// Draws a figure: panels of uPlot over one x axis, with the states of regime and gate, orders, and a chosen moment.
'use strict';
const charts = (() => {
  const {channels, clock, colour, figured, inStyle, leading, moment, plainly, ticks} = labels;
  const linear = uPlot.paths.linear();
  const stepped = uPlot.paths.stepped({align: 1});
  const bars = uPlot.paths.bars({size: [0.9, 80]});
  // Root mean squares of stretches where there are several values a pixel: the extremes of a noisy measure hide its course.
  const smooth = (u, s, a, b) => {
    const stretch = Math.ceil(2 * (b - a + 1) / u.bbox.width);
    if (stretch < 4) return linear(u, s, a, b);
    const [x, y] = [u.data[0], u.data[s]];
    const path = new Path2D();
    for (let i = a; i <= b; i += stretch) {
      const end = Math.min(i + stretch, b + 1);
      let [sum, known] = [0, 0];
      for (let k = i; k < end; k++) if (y[k] !== null) { sum += y[k] * y[k]; known++; }
      if (known) path.lineTo(u.valToPos(x[(i + end - 1) >> 1], 'x', true), u.valToPos(Math.sqrt(sum / known), u.series[s].scale, true));
    }
    return {stroke: path, fill: null, clip: null, band: null, gaps: null, flags: 1};
  };
  const paths = {
    // With more bars than pixels a step is no more to be seen, and a line goes quicker.
    step: (u, s, a, b) => (b - a > 4 * u.bbox.width ? linear : stepped)(u, s, a, b),
    line: linear,
    smooth,
    bars,
    dots: () => null,
  };

  class Figure {
    constructor(place, spec, columns) {
      Object.assign(this, {place, spec, columns, plots: [], chosen: null});
      if (spec.range) this.whole = [spec.range[0], Math.max(spec.range[1], spec.range[0] + 1)];
      this.time = spec.x === 'time';
      if (this.time) this.tools();
      this.tip = document.createElement('div');
      this.tip.className = 'tip';
      this.tip.hidden = true;
      for (const panel of spec.panels) this.add(panel);
      place.append(this.tip);
      new ResizeObserver(() => this.resize()).observe(place);
    }

    // A list stands for itself, a name for a column; gaps become null, which is what uPlot passes over.
    numbers(of) {
      if (Array.isArray(of)) return of;
      const values = this.columns[of];
      return values.some(Number.isNaN) ? Array.from(values, v => (Number.isNaN(v) ? null : v)) : values;
    }

    width() { return Math.max(200, this.place.clientWidth); }

    add(panel) {
      const x = this.numbers(panel.x);
      const narrow = this.width() < 600;
      const plain = panel.strip !== undefined || panel.stack !== undefined;
      const small = panel.strip !== undefined;
      const font = `${narrow ? 10 : 12}px Inter, "Segoe UI", system-ui, sans-serif`;
      const series = [{label: this.time ? 'time (UTC)' : this.spec.label || 'x',
        value: (u, v) => (v === null ? '' : this.time ? moment(v) : figured(5)(v))}];
      const data = [x];
      for (const s of panel.series || []) {
        const form = figured(panel.figures || 6);
        data.push(this.numbers(s.y));
        series.push({
          label: s.name, scale: s.y === panel.loose ? 'loose' : 'y', width: s.kind === 'dots' || s.kind === 'bars' ? 0 : s.width || 1.4, dash: s.dash,
          stroke: () => colour(s.colour), paths: paths[s.kind || 'line'], spanGaps: s.span === true,
          fill: s.kind === 'bars' ? () => colour(s.colour) : s.fill ? () => colour(s.colour) + '38' : undefined,
          points: s.points ? {show: true, size: 7, width: 1, fill: () => colour(s.colour)} : {show: false},
          value: (u, v) => form(v) + (v === null || v === undefined ? '' : panel.unit || ''),
        });
      }
      if (plain) {
        data.push(new Array(x.length).fill(0));
        series.push({label: '', show: true, width: 0, paths: () => null, points: {show: false}});
      }
      const axis = {stroke: () => colour('$muted'), font,
        grid: {stroke: () => colour('$line'), width: 1}, ticks: {stroke: () => colour('$line'), width: 1, size: 4}};
      const log = this.spec.x === 'log';
      const block = document.createElement('div');
      block.className = `panel${small ? ' strip' : ''}${this.time ? ' time' : ''}`;
      const title = document.createElement('div');
      title.className = 'panel-title';
      title.append(Object.assign(document.createElement('b'), {textContent: panel.title || ''}));
      block.append(title);
      this.place.append(block);
      const names = panel.strip || panel.stack;
      const plot = new uPlot({
        width: this.width(), height: panel.height + (panel.labels ? 42 : 0), ms: 1, pxAlign: 1,
        tzDate: ms => uPlot.tzDate(new Date(ms), 'Etc/UTC'),
        padding: [small ? 1 : 10, this.time ? 34 : 20, small ? 1 : 4, 0],
        scales: {
          x: {time: this.time, distr: log ? 3 : 1, range: (u, a, b) => this.span(a, b, log)},
          y: {distr: panel.log ? 3 : 1, range: panel.range ? () => panel.range
            : plain ? () => [0, 1] : (u, a, b) => this.reach(u, a, b, panel)},
          ...(panel.loose ? {loose: {from: 'y', range: (u, a, b) => [a, b]}} : {}),
        },
        axes: [
          {...axis, size: panel.labels ? 40 : 0, label: panel.labels && !this.time ? this.spec.label : undefined, labelSize: 18, labelFont: font, labelGap: 0, space: narrow ? 70 : 90,
            values: panel.labels ? (this.time ? clock : log ? plainly : ticks) : () => [], ...(log ? {filter: leading} : {}),
            ...(panel.labels ? {} : {ticks: {show: false}}), ...(plain ? {grid: {show: false}} : {})},
          {...axis, ...(plain ? {grid: {show: false}} : {}), size: narrow ? 46 : 66, gap: 4, space: 20, show: true, values: small ? () => [] :
            panel.stack ? (u, v) => v.map(p => Math.round(100 * p) + '%') : panel.log ? plainly : ticks,
            ...(panel.log ? {filter: leading} : {}),
            splits: small ? () => [] : panel.stack ? () => [0, 0.5, 1] : undefined},
        ],
        series,
        legend: {show: !plain, mount: (u, legend) => title.append(legend), markers: {width: 0, fill: (u, i) => (i ? inStyle(panel.series[i - 1].colour) : 'none')}},
        cursor: {y: !this.time, drag: {x: this.time, y: false, setScale: this.time, dist: 4},
          points: {size: 6, fill: (u, i) => (plain || !i ? 'transparent' : colour(panel.series[i - 1].colour))},
          sync: this.time ? {key: this.place.id, scales: ['x', null], setSeries: false} : undefined,
          bind: {dblclick: () => () => { this.zoom(null); return null; }}},
        hooks: {
          drawClear: [u => this.behind(u, panel)],
          draw: [u => { this.orders(u, panel); this.choice(u); }],
          setScale: [(u, key) => { if (key === 'x') this.follow(u); }],
          setCursor: [u => this.hover(u, panel)],
        },
      }, data, block);
      plot.over.addEventListener('mouseenter', () => { this.hovered = plot; });
      plot.over.addEventListener('mouseleave', () => { this.tip.hidden = true; });
      plot.over.title = names ? names.names.join(', ') : '';
      this.plots.push({plot, panel, block});
    }

    span(a, b, log) {
      if (a === null || b === null) return [0, 1];
      if (this.time) return [a, b];
      if (log) return [a / 1.1, b * 1.1];
      const pad = (b - a || 1) * (this.spec.pad || 0.03);
      return [a - pad, b + pad];
    }

    reach(u, a, b, panel) {
      if (a === null || b === null) return panel.log ? [1, 10] : [0, 1];
      if (panel.log) return [a / 1.15, b * 1.15];
      // A line that may leave the picture counts while most of the run is in view.
      const {min: from, max: to} = u.scales.x;
      if (panel.loose && to - from > 0.5 * (this.whole[1] - this.whole[0])) {
        const x = this.columns[panel.x];
        this.columns[panel.loose].forEach((value, i) => {
          if (x[i] >= from && x[i] <= to && value < a) a = value;
          if (x[i] >= from && x[i] <= to && value > b) b = value;
        });
      }
      if (panel.zero) { a = Math.min(a, 0); b = Math.max(b, 0); }
      const pad = (b - a || Math.abs(a) || 1) * 0.06;
      return [panel.zero && a === 0 ? 0 : a - pad, panel.zero && b === 0 ? 0 : Math.min(b + pad, panel.most ?? Infinity)];
    }

    // -- moving about ------------------------------------------------------------------------------------------

    tools() {
      const bar = document.createElement('div');
      bar.className = 'tools';
      const buttons = [['all', 'show all', () => this.zoom(null)], ['−', 'zoom out', () => this.scale(2)],
        ['+', 'zoom in', () => this.scale(0.5)], ['◀', 'earlier', () => this.shift(-0.5)],
        ['▶', 'later', () => this.shift(0.5)]];
      for (const [text, label, act] of buttons) {
        const button = document.createElement('button');
        button.textContent = text;
        button.title = label;
        button.setAttribute('aria-label', label);
        button.onclick = act;
        bar.append(button);
      }
      this.shown = document.createElement('span');
      bar.append(this.shown);
      this.place.append(bar);
      this.place.tabIndex = 0;
      this.place.setAttribute('role', 'group');
      this.place.setAttribute('aria-label', 'charts over time; + and - zoom, arrows move, 0 shows all');
      this.place.onkeydown = event => {
        const act = {ArrowLeft: () => this.shift(-0.2), ArrowRight: () => this.shift(0.2), '+': () => this.scale(0.5),
          '=': () => this.scale(0.5), '-': () => this.scale(2), 0: () => this.zoom(null), Escape: () => this.zoom(null)}[event.key];
        if (!act || event.target !== this.place) return;
        event.preventDefault();
        act();
      };
    }

    now() { const {min, max} = this.plots[0].plot.scales.x; return [min, max]; }
    scale(factor) { const [a, b] = this.now(); const half = (b - a) / 2 * factor; this.zoom([(a + b) / 2 - half, (a + b) / 2 + half]); }
    shift(share) { const [a, b] = this.now(); this.zoom([a + (b - a) * share, b + (b - a) * share]); }

    // Show a stretch, or everything; never beyond the ends.
    zoom(to) {
      const [first, last] = this.whole;
      let [a, b] = to || this.whole;
      const length = Math.min(Math.max(b - a, 2), last - first);
      a = Math.min(Math.max(a, first), last - length);
      this.plots[0].plot.setScale('x', {min: a, max: a + length});
    }

    follow(of) {
      if (!this.time || this.following || this.plots.length < this.spec.panels.length) return;
      this.following = true;
      const {min, max} = of.scales.x;
      for (const {plot} of this.plots) if (plot !== of) plot.setScale('x', {min, max});
      this.following = false;
      const x = this.plots[0].plot.data[0];
      const inside = countBetween(x, min, max);
      const width = this.width();
      const held = inside > width ? `${(inside / width).toFixed(inside > 10 * width ? 0 : 1)} bars a pixel` : `${inside.toLocaleString('en')} bars`;
      this.shown.textContent = `${moment(min, false)} → ${moment(max, false)} UTC, ${held}`;
    }

    // Mark a moment or a stretch in every panel and bring it into view.
    choose(from, to, label, pad) {
      this.chosen = {from, to, label};
      this.zoom([from - pad, to + pad]);
      for (const {plot} of this.plots) plot.redraw(false);
    }

    resize(width = this.width()) {
      for (const {plot, panel} of this.plots) {
        if (plot.width !== width) plot.setSize({width, height: panel.height + (panel.labels ? 42 : 0)});
      }
    }

    redraw() { for (const {plot} of this.plots) plot.redraw(false, true); }

    // -- what uPlot does not draw ------------------------------------------------------------------------------

    // Regimes behind lines, or strips and stacks of shares: each pixel shows what each state held of it.
    behind(u, panel) {
      const states = panel.back || panel.strip || panel.stack;
      if (!states) return;
      const {left, top, width, height} = u.bbox;
      const {min, max} = u.scales.x;
      const kinds = states.names.length;
      let weigh;
      if (states.codes) {
        const codes = this.columns[states.codes];
        weigh = (i, add) => add(codes[i], 1);
      } else {
        const parts = states.columns.map(name => this.columns[name]);
        weigh = (i, add) => parts.forEach((part, k) => { if (!Number.isNaN(part[i])) add(k, part[i]); });
      }
      const pixels = Math.round(width);
      const held = this.held(states.codes || states.columns[0], panel.x, kinds, weigh, min, max, pixels);
      const colours = states.colours.map(name => (name ? channels(colour(name)) : null));
      const paper = channels(colour('$card'));
      const ctx = u.ctx;
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, top, width, height);
      ctx.clip();
      // Solid colours that overlap by half a pixel: on paper, thinner or see-through ones would show their seams.
      for (let p = 0; p < pixels; p++) {
        let up = top + height;
        let mixed = paper;
        for (let k = 0; k < kinds; k++) {
          const share = held[p * kinds + k];
          if (!share || !colours[k]) continue;
          if (panel.back) {
            mixed = mixed.map((part, i) => part + (colours[k][i] - paper[i]) * share * panel.back.strength);
            continue;
          }
          ctx.fillStyle = `rgb(${colours[k]})`;
          ctx.fillRect(left + p, up - height * share, 1.5, height * share);
          up -= height * share;
        }
        if (mixed === paper) continue;
        ctx.fillStyle = `rgb(${mixed.map(Math.round)})`;
        ctx.fillRect(left + p, top, 1.5, height);
      }
      ctx.restore();
    }

    // Shares of one column are the same in every panel: reckoned once a view.
    held(name, x, kinds, weigh, min, max, pixels) {
      const key = `${min} ${max} ${pixels}`;
      if (this.view !== key) { this.view = key; this.cache = new Map(); }
      if (!this.cache.has(name)) this.cache.set(name, numbers.shares(this.columns[x], kinds, weigh, min, max, pixels));
      return this.cache.get(name);
    }

    orders(u, panel) {
      const m = panel.marks;
      if (!m) return;
      const [ts, price, side, who, qty] = [m.x, m.y, m.side, m.who, m.qty].map(name => this.columns[name]);
      const {min, max} = u.scales.x;
      const [low, high] = [u.scales.y.min, u.scales.y.max];
      const seen = [];
      for (let i = 0; i < ts.length; i++) if (ts[i] >= min && ts[i] <= max && price[i] >= low && price[i] <= high) seen.push(i);
      const x = seen.map(i => u.valToPos(ts[i], 'x', true));
      const y = seen.map(i => u.valToPos(price[i], 'y', true));
      const ratio = devicePixelRatio || 1;
      const kept = numbers.thin(x, y, seen.map(i => side[i] + 3 * who[i]), seen.map(i => qty[i]), 11 * ratio);
      const size = (kept.length > 250 ? 3.2 : 4.6) * ratio;
      const ctx = u.ctx;
      ctx.save();
      ctx.lineWidth = 1.2 * ratio;
      u.marks = kept.map(k => {
        const up = side[seen[k]] > 0 ? -1 : 1;
        ctx.strokeStyle = ctx.fillStyle = colour(up < 0 ? m.bought : m.sold);
        ctx.beginPath();
        ctx.moveTo(x[k], y[k] + up * size);
        ctx.lineTo(x[k] - size, y[k] - up * size);
        ctx.lineTo(x[k] + size, y[k] - up * size);
        ctx.closePath();
        if (who[seen[k]] % 2) ctx.stroke();
        else ctx.fill();
        return {i: seen[k], x: x[k] / ratio, y: y[k] / ratio};
      });
      ctx.font = `${10.5 * ratio}px system-ui, sans-serif`;
      ctx.fillStyle = colour('$muted');
      ctx.textAlign = 'right';
      const said = kept.length < seen.length ? `${kept.length} of ${seen.length.toLocaleString('en')} filled orders in view drawn; zoom for all`
        : `${seen.length} filled orders in view`;
      ctx.fillText(said, u.bbox.left + u.bbox.width - 4 * ratio, u.bbox.top + 12 * ratio);
      ctx.restore();
    }

    choice(u) {
      for (const event of [...(this.spec.events || []), this.chosen]) if (event) this.mark(u, event);
    }

    mark(u, {from, to, label, colour: of}) {
      const {left, top, width, height} = u.bbox;
      const [a, b] = [from, to].map(t => Math.round(u.valToPos(t, 'x', true)));
      if (b < left || a > left + width) return;
      const ratio = devicePixelRatio || 1;
      const ctx = u.ctx;
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, top, width, height);
      ctx.clip();
      ctx.strokeStyle = ctx.fillStyle = colour(of || '$chosen');
      if (b > a) {
        ctx.globalAlpha = 0.12;
        ctx.fillRect(a, top, b - a, height);
        ctx.globalAlpha = 1;
      }
      ctx.lineWidth = 1.5 * ratio;
      ctx.setLineDash([5 * ratio, 3 * ratio]);
      for (const at of new Set([a, b])) {
        ctx.beginPath();
        ctx.moveTo(at, top);
        ctx.lineTo(at, top + height);
        ctx.stroke();
      }
      if (u === this.plots[0].plot) {
        ctx.font = `600 ${11 * ratio}px system-ui, sans-serif`;
        ctx.textAlign = a > left + width / 2 ? 'right' : 'left';
        ctx.fillText(label, a + (a > left + width / 2 ? -6 : 6) * ratio, top + 13 * ratio);
      }
      ctx.restore();
    }

    // Time at the cursor, the states there, and the order under it.
    hover(u, panel) {
      if (u !== this.hovered) return;
      const {left, top, idx} = u.cursor;
      this.tip.hidden = left === undefined || left < 0 || idx === null || idx === undefined;
      if (this.tip.hidden) return;
      const at = u.data[0][idx];
      const lines = [this.time ? `${moment(at)} UTC` : `${this.spec.label || 'x'}: ${figured(4)(at)}`];
      for (const {panel: other} of this.plots) {
        const states = other.strip;
        if (states && other.x === panel.x) lines.push(`${other.title.toLowerCase()}: ${states.names[this.columns[states.codes][idx]]}`);
        if (other.stack && other.x === panel.x) {
          lines.push(other.stack.names.map((name, k) => `${name} ${Math.round(100 * this.columns[other.stack.columns[k]][idx])} %`).join(', '));
        }
      }
      const ratio = devicePixelRatio || 1;
      const near = (u.marks || []).map(mark => [Math.hypot(mark.x - left - u.bbox.left / ratio, mark.y - top - u.bbox.top / ratio), mark.i])
        .sort((a, b) => a[0] - b[0])[0];
      if (near && near[0] < 9) {
        const m = panel.marks;
        const [t, price, side, who, qty] = [m.x, m.y, m.side, m.who, m.qty].map(name => this.columns[name][near[1]]);
        lines.push(`${m.names[who]} ${side > 0 ? 'bought' : 'sold'} ${figured(6)(qty)} at ${figured(8)(price)}, ${moment(t)}`);
      }
      this.tip.replaceChildren(...lines.map(text => Object.assign(document.createElement('div'), {textContent: text})));
      const over = u.over.getBoundingClientRect();
      const host = this.place.getBoundingClientRect();
      const x = over.left - host.left + left;
      this.tip.style.top = `${over.top - host.top + Math.max(0, top - 10)}px`;
      this.tip.style.left = x > host.width / 2 ? '' : `${x + 14}px`;
      this.tip.style.right = x > host.width / 2 ? `${host.width - x + 14}px` : '';
    }
  }

  const countBetween = (x, min, max) => {
    const find = value => { let a = 0; let b = x.length; while (a < b) { const m = (a + b) >> 1; if (x[m] < value) a = m + 1; else b = m; } return a; };
    return find(max + 1) - find(min);
  };

  return {Figure};
})();
