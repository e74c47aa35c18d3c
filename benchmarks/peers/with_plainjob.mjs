// plainjob on SQLite (better-sqlite3), its worker inside the process. Started by `rivals.py` in the
// rival's folder, with the same figures as `harness.py`; a job writes the same record.
import { openSync, writeSync, statSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.cwd(), "package.json"));
const home = join(process.cwd(), "node_modules", "plainjob");
const { better, defineQueue, defineWorker } = await import(
  pathToFileURL(join(home, "dist", "plainjob.js"))
);
const Database = require("better-sqlite3");

const CALLERS = 100, LINE = 16, TEXT = "a short string";
const folder = process.env.BENCH_FOLDER;
const jobs = Math.max(CALLERS, Math.floor(Number(process.env.BENCH_JOBS) / CALLERS) * CALLERS);
const silent = { error() {}, warn() {}, info() {}, debug() {} };
const queue = defineQueue({
  connection: better(new Database(join(folder, "plainjob.db"))), logger: silent,
});
const record = join(folder, "record");
const file = openSync(record, "a");
const clock = () => Number(process.hrtime.bigint()) / 1e9;
const called = new Map();
let next = 0;

const makeWorker = () => defineWorker("nothing", async (job) => {
  const [number] = JSON.parse(job.data);
  const line = Buffer.alloc(LINE);
  line.writeBigInt64LE(BigInt(number), 0);
  line.writeDoubleLE(clock(), 8);
  writeSync(file, line);
}, { queue, logger: silent });

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const timesRun = () => statSync(record).size / LINE;

async function ran() {
  while (timesRun() < next) await pause(1);
}

function started(first) {
  const data = readFileSync(record), found = [];
  for (let at = 0; at < data.length; at += LINE) {
    const number = Number(data.readBigInt64LE(at));
    if (number >= first) found.push([number, data.readDoubleLE(at + 8)]);
  }
  return found;
}

function waited(first) {
  const times = started(first).map(([number, at]) => (at - called.get(number)) * 1000);
  times.sort((a, b) => a - b);
  const pick = (part) => times[Math.floor(times.length * part)];
  return { p50: pick(0.5), p99: pick(0.99) };
}

// `add` is synchronous, so a hundred callers are a hundred turns of the loop.
async function byCallers(count, callers) {
  const first = next, share = count / callers, begun = clock();
  next += count;
  await Promise.all(Array.from({ length: callers }, async (_, caller) => {
    for (let i = 0; i < share; i++) {
      const number = first + caller * share + i;
      called.set(number, clock());
      queue.add("nothing", [number, TEXT]);
      if (callers > 1) await new Promise(setImmediate);
    }
  }));
  return clock() - begun;
}

let worker = makeWorker();
worker.start();
await byCallers(20, 1);
await ran();
let first = next;
const values = {}, begun = clock();
while (next - first < 30 && (clock() - begun < 3 || next - first < 5)) {
  await byCallers(1, 1);
  await ran();
  await pause(5);
}
let { p50, p99 } = waited(first);
values["idle.p50"] = p50;
values["idle.p99"] = p99;

first = next;
const start = clock();
await byCallers(jobs, CALLERS);
await ran();
({ p50, p99 } = waited(first));
values["busy.p50"] = p50;
values["busy.p99"] = p99;
values["meanwhile"] = jobs / (Math.max(...started(first).map(([, at]) => at)) - start);
await worker.stop();

const single = Math.max(20, Math.floor(jobs / 4));
first = next;
values["enqueue.one"] = single / (await byCallers(single, 1));
const many = await byCallers(jobs, CALLERS);
values["enqueue.hundred"] = jobs / many;
worker = makeWorker();
worker.start();
await ran();
const moments = started(first).map(([, at]) => at).sort((a, b) => a - b);
values["drained"] = (moments.length - 1) / (moments[moments.length - 1] - moments[0]);
values["whole"] = 1 / (1 / values["drained"] + many / jobs);
const version = JSON.parse(readFileSync(join(home, "package.json"))).version;
console.log(JSON.stringify({ version, values }));
process.exit(0);
