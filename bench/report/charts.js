// Charts of docs/benchmarks.md, as SVG.
import * as echarts from 'echarts';
import { quantile } from '../lib/statistics.js';
import { contestantsIn, IN_FLIGHT, scalingIn, timelineOf } from './figures.js';

/** Width and height of a chart (pixels). */
const WIDTH = 860;
const HEIGHT = 380;
/** Length of an interval of the timeline (ms). */
const BUCKET = 20;

function render(option) {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height: HEIGHT });
  chart.setOption({
    animation: false,
    backgroundColor: '#ffffff',
    grid: { left: 70, right: 30, top: 60, bottom: 60 },
    legend: { top: 28 },
    ...option,
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

const titled = (text) => ({ text, left: 'center', textStyle: { fontSize: 15 } });

/** Chart of operations a second of all contestants, as multiples of pkcs11js asynchronous at its best. */
function throughput({ scenarios }) {
  const rows = contestantsIn(scenarios.throughput.rows);
  const series = [
    ['this group, 64 in flight', 'ours'],
    ['graphene-pk11', 'graphene'],
    ['C, 2 threads, one token', 'straight'],
  ];
  return render({
    title: titled('Operations a second, × pkcs11js asynchronous at its best (1, 4, 8, 16 sessions)'),
    xAxis: { type: 'category', data: rows.map(({ operation }) => operation), axisLabel: { interval: 0, rotate: 20 } },
    yAxis: { type: 'value', name: '×' },
    series: series.map(([name, key]) => ({
      name,
      type: 'bar',
      data: rows.map((row) => Number((row[key] / row.pkcs11js).toFixed(2))),
      ...(key === 'ours'
        ? {
            markLine: {
              symbol: 'none',
              data: [{ yAxis: 1 }],
              lineStyle: { color: '#666666' },
              label: { formatter: '1' },
            },
          }
        : {}),
    })),
  });
}

/** Chart of operations a second with 1 to 8 members on the network. */
function scaling({ scenarios }) {
  const points = scalingIn(scenarios.scaling.rows);
  return render({
    title: titled('HSMs that take 2 ms for an operation, 2 sessions each, 64 calls in flight'),
    xAxis: { type: 'category', name: 'members', data: points.map(({ members }) => String(members)) },
    yAxis: { type: 'value', name: 'operations a second', nameLocation: 'middle', nameGap: 50 },
    series: [
      { name: 'measured', type: 'line', data: points.map(({ rate }) => Math.round(rate)) },
      {
        name: 'as many times one member',
        type: 'line',
        lineStyle: { type: 'dashed' },
        data: points.map(({ members }) => Math.round(points[0].rate * members)),
      },
    ],
  });
}

/** Chart of latencies around an outage: median and longest call of every 20 ms. */
function timeline({ outages }, outage) {
  const points = timelineOf(outages, outage);
  const buckets = groupBy(points);
  const times = [...buckets.keys()].sort((a, b) => a - b);
  const of = (part) =>
    times.map((time) => [
      time,
      quantile(
        buckets.get(time).map(([, took]) => took),
        part,
      ),
    ]);
  return render({
    title: titled(`64 callers sign, and at 0 ms: ${outage}`),
    xAxis: { type: 'value', name: 'ms', min: -500, max: 2000 },
    yAxis: { type: 'value', name: 'latency, ms', nameLocation: 'middle', nameGap: 45 },
    series: [
      { name: 'longest', type: 'line', symbol: 'none', data: of(1) },
      { name: 'median', type: 'line', symbol: 'none', data: of(0.5) },
    ],
  });
}

const bucketOf = ([from]) => Math.floor(from / BUCKET) * BUCKET;

function groupBy(points) {
  const buckets = new Map();
  for (const point of points) {
    const bucket = bucketOf(point);
    if (!buckets.has(bucket)) buckets.set(bucket, []);
    buckets.get(bucket).push(point);
  }
  return buckets;
}

/** Draws all charts from the results of both benches; returns SVG texts by file name. */
export function charts(bench, failover) {
  return {
    [`throughput-${IN_FLIGHT}`]: throughput(bench),
    scaling: scaling(bench),
    'host-killed': timeline(failover, 'host killed'),
    hang: timeline(failover, 'hang'),
  };
}
