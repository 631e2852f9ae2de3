// Numbers and scales of charts.js: how values are written, round ticks, and the way from values to pixels.
"use strict";

const AXES = {
  step: { title: "steps", format: formatCount },
  tokens: { title: "tokens", format: formatCount },
  flops: { title: "FLOPs", format: formatCount },
  seconds: { title: "time", format: formatTime },
};
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

function formatCount(value) {
  const size = Math.abs(value);
  if (size >= 1e15) return value.toExponential(2).replace("e+", "e");
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= 10 * unit || (size >= unit && unit > 1e3)) return `${Number((value / unit).toPrecision(4))}${letter}`;
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
}

function formatTime(seconds) {
  if (seconds < 120) return `${Number(seconds.toPrecision(3))} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min${seconds % 60 >= 1 ? ` ${Math.floor(seconds % 60)} s` : ""}`;
  return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
}

function formatValue(value, unit) {
  if (unit === "%") return `${Number((100 * value).toPrecision(3))} %`;
  const size = Math.abs(value);
  const number = size !== 0 && size < 1e-4 ? String(Number(value.toPrecision(3))) : formatCount(value);
  return unit ? `${number} ${unit}` : number;
}

// Return round numbers inside of a range, about `count` of them.
function linearTicks(low, high, count, isTime) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const candidates = isTime && rough >= 1 ? TIME_STEPS : [0.5, 1, 2, 5, 10].map((factor) => factor * power);
  const step = candidates.find((candidate) => candidate >= rough * 0.7) ?? candidates.at(-1);
  const ticks = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + step * 1e-9; number++) ticks.push(number * step || 0);
  return ticks;
}

function logTicks(low, high, count) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const factor of [1, 2, 5]) {
      const tick = factor * 10 ** power;
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  if (ticks.length < 3) return linearTicks(low, high, count, false);
  const decades = ticks.filter((tick) => Number.isInteger(Math.log10(tick)));
  return ticks.length > count + 2 && decades.length > 1 ? decades : ticks;
}

// Map a range of values to a range of pixels.
class Scale {
  constructor(low, high, start, end, isLog) {
    this.transform = isLog ? Math.log : (value) => value;
    this.inverse = isLog ? Math.exp : (value) => value;
    this.low = this.transform(low);
    this.span = this.transform(high) - this.low || 1;
    this.start = start;
    this.length = end - start;
  }
  pixel(value) {
    return this.start + ((this.transform(value) - this.low) / this.span) * this.length;
  }
  value(pixel) {
    return this.inverse(this.low + ((pixel - this.start) / this.length) * this.span);
  }
}

// Return the index of the item nearest to a value in an ascending list.
function nearestIndex(items, value) {
  let low = 0;
  let high = items.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (items[middle] < value) low = middle;
    else high = middle;
  }
  return Math.abs(items[high] - value) < Math.abs(items[low] - value) ? high : low;
}
