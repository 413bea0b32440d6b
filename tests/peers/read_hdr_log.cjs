// Reads a histogram log with HdrHistogramJS and prints, for each tag, how many intervals it has, what their sum
// counts, and its percentiles.
const { readFileSync } = require('node:fs');
const { HistogramLogReader, build, listTags } = require('hdr-histogram-js');

const text = readFileSync(process.argv[2], 'utf8');
const found = {};
for (const tag of listTags(text)) {
  const reader = new HistogramLogReader(text);
  const all = build({ lowestDiscernibleValue: 1, highestTrackableValue: 3600000000, numberOfSignificantValueDigits: 3 });
  let intervals = 0;
  for (let one = reader.nextIntervalHistogram(); one; one = reader.nextIntervalHistogram()) {
    if (one.tag === tag) {
      all.add(one);
      intervals += 1;
    }
  }
  found[tag] = { intervals, count: all.totalCount, p50: all.getValueAtPercentile(50), p99: all.getValueAtPercentile(99), max: all.maxValue };
}
console.log(JSON.stringify(found));
