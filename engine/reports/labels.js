// How pages write moments, numbers and the labels of axes, and where they take their colours from.
'use strict';
const labels = (() => {
  const root = document.documentElement;
  const colour = name => (name[0] === '$' ? getComputedStyle(root).getPropertyValue('--' + name.slice(1)).trim() : name);
  const inStyle = name => (name[0] === '$' ? `var(--${name.slice(1)})` : name);
  const channels = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
  const two = value => String(value).padStart(2, '0');
  const moment = (ms, seconds = true) => {
    const d = new Date(ms);
    const day = `${d.getUTCFullYear()}-${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`;
    return `${day} ${two(d.getUTCHours())}:${two(d.getUTCMinutes())}${seconds ? ':' + two(d.getUTCSeconds()) : ''}`;
  };
  const figured = digits => value => {
    if (value === null || value === undefined || Number.isNaN(value)) return '';
    const most = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value) || 1)));
    return value.toLocaleString('en', {maximumFractionDigits: Math.min(most, 12)});
  };
  // Tick labels: as many decimals as their step needs.
  const ticks = (u, values) => {
    const step = values.length > 1 ? Math.abs(values[1] - values[0]) : 1;
    const digits = Math.min(12, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
    return values.map(value => (value === null ? '' : value.toLocaleString('en', {maximumFractionDigits: digits})));
  };
  // On a logarithmic axis 1, 2 and 5 are enough.
  const leading = (u, values) => values.map(value => (/^[125](\.0*)?e/.test(value.toExponential(6)) ? value : null));
  const plainly = (u, values) => values.map(value => (value === null ? '' : String(parseFloat(value.toPrecision(2)))));
  // Time as labels: hours of a day, days of a year, months; what a label leaves out stands below where it changes.
  const DAY = 86400000;
  const clock = (u, splits, axis, space, step) => {
    let before = '';
    return splits.map(ms => {
      const text = moment(ms);
      const [name, below] = step >= 28 * DAY ? [text.slice(0, 7), ''] : step >= DAY ? [text.slice(5, 10), text.slice(0, 4)]
        : [text.slice(11, step < 60000 ? 19 : 16), text.slice(0, 10)];
      const label = below && below !== before ? `${name}\n${below}` : name;
      before = below;
      return label;
    });
  };

  return {channels, clock, colour, figured, inStyle, leading, moment, plainly, ticks};
})();
