// Counts the instructions of a command's way through the process, and compares them with the table
// in loadtest/RESULTS.md.
//
//   node tests/instructions/check.mjs [OPTION...]
//     --program FILE   the harness, of a release build; build/tests/instructions
//     --results FILE   where the table is; loadtest/RESULTS.md
//     --only PART      only rows whose name, "COMMAND|STAGE", has PART in it; all of the table's
//                      others are left alone
//     --profile        also which libraries and functions the instructions of each row are in
//     --update         writes what was counted into the table
//
// Normal path: the harness runs under callgrind, which leaves one file for each row; a row's
// figure is what was executed in all libraries but libcrypto, divided by its commands. A row that
// has grown by more than 5 % is named, with both figures, and so is one that has shrunk by as much:
// that is no failure, but the table is out of date.
// Failure: 1 where a row has grown, or the table and the harness do not have the same rows; 2 for a
// bad option, or where there is nothing to count with; 77 where nothing could be compared.
//
// The figures depend on nothing but the code: no time, chance or disk is in them (house.h),
// callgrind shows the same processor to every program as long as the real one has AVX2, so every
// library chooses the same variant everywhere, and addresses are the same in each run. Another
// compiler has other figures: where the table is of another one than the harness, nothing is
// compared, and that is said.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const TOLERANCE = 0.05;
// Below that, 5 % are less than a function's prologue.
const TOLERANCE_LEAST = 8;
const PROFILE_LINES = 30;
const LEFT_OUT = 77; // as Automake's tests say it
const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const TABLE_HEAD = "| Instructions per command |";
const BUILT_BY = /gcc [^,\s]+, glibc \d+(\.\d+)*/; // in the table's text; the harness says its own

function fail(status, text) {
    console.error(text);
    process.exit(status);
}

function options() {
    try {
        return parseArgs({
            options: {
                program: { type: "string", default: join(root, "build/tests/instructions") },
                results: { type: "string", default: join(root, "loadtest/RESULTS.md") },
                only: { type: "string", default: "" },
                profile: { type: "boolean", default: false },
                update: { type: "boolean", default: false },
            },
        }).values;
    } catch (error) {
        return fail(2, `${error.message}\nusage: check.mjs [--program FILE] [--results FILE] ` +
            "[--only PART] [--profile] [--update]");
    }
}

// ---- counting

// The variants that a library chooses among are those of the processor that callgrind shows; what
// is left to the environment is set here.
const environment = {
    PATH: "/usr/local/bin:/usr/bin:/bin",
    LC_ALL: "C",
    LD_BIND_NOW: "1", // symbols are looked up before anything is counted
    // A copy or a fill is the loop it would be, not one instruction for each byte of a `rep`.
    GLIBC_TUNABLES: "glibc.cpu.x86_rep_movsb_threshold=1073741824:" +
        "glibc.cpu.x86_rep_stosb_threshold=1073741824",
    MALLOC_CONF: "narenas:2,dirty_decay_ms:-1,muzzy_decay_ms:-1", // of no clock, nor of cores
    SIMDJSON_FORCE_IMPLEMENTATION: "haswell",
};

function count(program, only, folder) {
    const run = spawnSync("valgrind", ["--tool=callgrind", "-q",
        "--collect-atstart=no", "--instr-atstart=no", "--compress-strings=no", "--compress-pos=no",
        `--callgrind-out-file=${join(folder, "part.%p")}`, program, only],
    { env: environment, encoding: "utf8" });
    if (run.error !== undefined)
        fail(2, `valgrind cannot be run: ${run.error.message}`);
    if (run.status !== 0)
        fail(run.status ?? 1, `${program} has failed:\n${run.stdout}${run.stderr}`);
    return run.stdout.trim(); // what it was built by
}

/** One row's file: what was executed, by function and by library. */
function readPart(text) {
    const [, command, stage, ...numbers] =
        /^desc: Trigger: Client Request: (.*)\|(.*)\|(\d+)\|(\d+)$/m.exec(text) ?? [];
    const [commands, pauses] = numbers.map(Number);
    const part = { command, stage, commands, pauses, libraries: {}, functions: {} };
    let library = "", name = "", called = false;
    for (const line of text.split("\n")) {
        if (line.startsWith("ob=")) {
            library = line.slice(line.lastIndexOf("/") + 1);
        } else if (line.startsWith("fn=")) {
            name = line.slice(3);
        } else if (line.startsWith("calls=")) {
            called = true; // the next line is what was executed there, not here
        } else if (/^\d/.test(line)) {
            const instructions = called ? 0 : Number(line.split(" ")[1]);
            const key = `${name}  ${library}`;
            part.libraries[library] = (part.libraries[library] ?? 0) + instructions;
            part.functions[key] = (part.functions[key] ?? 0) + instructions;
            called = false;
        }
    }
    return part;
}

function readParts(folder) {
    return readdirSync(folder)
        .filter((file) => /^part\.\d+\.\d+$/.test(file))
        .map((file) => join(folder, file))
        .sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs) // as they were counted
        .map((file) => readPart(readFileSync(file, "utf8")))
        .filter((part) => part.command !== undefined);
}

// ---- rows

// In the table's order, by the harness's names. `told`: not compared, as it is not ours, or is the
// difference of others. `of`: worked out, where all that it takes has been counted.
const stages = [
    { name: "decode", label: "decode: body to commands" },
    { name: "decide", label: "decide" },
    { name: "apply", label: "apply" },
    { name: "encode", label: "encode: event to bytes" },
    { name: "patch", label: "patch: event to RFC 6902" },
    { name: "core work", label: "core work: the four above",
        of: (row) => row("decide") + row("apply") + row("encode") + row("patch") },
    { name: "chain", label: "chain, without the hash" },
    { name: "answer", label: "answer: event to JSON" },
    { name: "shard", label: "shard: from ring to ring, nobody watches" },
    { name: "shard, followed", label: "shard, and a frame for who watches" },
    { name: "POST", label: "POST: from read to write, h2o's part too" },
    { name: "POST, watched", label: "POST, and its event told to who watches" },
    { name: "POST, token", label: "POST with a token that its connection knows" },
    { name: "rings and log", label: "of the shard: rings, record, log", told: true,
        of: (row) =>
            row("shard") - sum(["decide", "apply", "encode", "chain", "answer"].map(row)) },
    { name: "SHA-256", label: "beside all that: SHA-256 of the chain", told: true },
];

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
const executed = (part) => sum(Object.values(part.libraries));

function executedInCrypto(part) {
    return sum(Object.entries(part.libraries)
        .filter(([library]) => library.startsWith("libcrypto"))
        .map(([, instructions]) => instructions));
}

/** {command: {stage: instructions}} */
function countedOf(parts) {
    const counted = {};
    const nothing = parts.find((part) => part.stage === "nothing");
    const pause = executed(nothing) / nothing.pauses; // what counting a piece adds to it
    for (const part of parts.filter((part) => part !== nothing)) {
        const row = counted[part.command] ??= {};
        const crypto = executedInCrypto(part);
        const own = executed(part) - crypto - part.pauses * pause;
        row[part.stage] = Math.round(own / part.commands);
        if (part.stage === "chain")
            row["SHA-256"] = Math.round(crypto / part.commands);
    }
    for (const row of Object.values(counted)) {
        for (const stage of stages.filter((stage) => stage.of !== undefined)) {
            const value = stage.of((name) => row[name]);
            if (!Number.isNaN(value))
                row[stage.name] = value;
        }
    }
    return counted;
}

// ---- the table

const cellsOf = (line) => line.split("|").slice(1, -1).map((cell) => cell.trim());

/** Where the table is in the file's lines, and what it says. */
function readTable(results, text) {
    const lines = text.split("\n");
    const begin = lines.findIndex((line) => line.startsWith(TABLE_HEAD));
    if (begin < 0)
        fail(2, `${results} has no line that begins with "${TABLE_HEAD}"`);
    let end = begin + 2;
    while (lines[end]?.startsWith("|"))
        end++;
    const commands = cellsOf(lines[begin]).slice(1);
    const kept = Object.fromEntries(commands.map((command) => [command, {}]));
    for (const line of lines.slice(begin + 2, end)) {
        const [label, ...cells] = cellsOf(line);
        const stage = stages.find((stage) => stage.label === label);
        if (stage === undefined)
            fail(2, `${results}: no row is called "${label}" (any more)`);
        cells.forEach((cell, i) => {
            if (cell !== "")
                kept[commands[i]][stage.name] = Number(cell.replaceAll(" ", ""));
        });
    }
    return { lines, begin, end, kept };
}

const spaced = (n) => (n === undefined ? "" : String(n).replace(/\B(?=(\d{3})+$)/g, " "));

function tableOf(counted) {
    const commands = Object.keys(counted);
    const row = (cells) => `| ${cells.join(" | ")} |`.replaceAll("  |", " |");
    return [
        `${TABLE_HEAD} ${commands.join(" | ")} |`,
        `|---|${commands.map(() => "--:|").join("")}`,
        ...stages.map(({ name, label }) =>
            row([label, ...commands.map((command) => spaced(counted[command][name]))])),
    ];
}

/** What was counted, over what the table says of rows that were not. */
function mergedOf(counted, kept, only) {
    if (only === "")
        return counted;
    const merged = structuredClone(kept);
    for (const [command, row] of Object.entries(counted))
        merged[command] = { ...merged[command], ...row };
    return merged;
}

// ---- comparing

function compare(counted, kept, only) {
    const news = { grown: [], shrunk: [], missing: [] };
    const commands = new Set([...Object.keys(kept), ...Object.keys(counted)]);
    for (const command of commands) {
        for (const { name } of stages.filter((stage) => !stage.told)) {
            const before = kept[command]?.[name], now = counted[command]?.[name];
            const row = `${command}, ${name}`;
            if (before === now || (now === undefined && only !== ""))
                continue;
            const bound = Math.max(TOLERANCE * before, TOLERANCE_LEAST);
            const change = () => `${row}: ${before} before, ${now} now ` +
                `(${now > before ? "+" : ""}${((now / before - 1) * 100).toFixed(1)} %)`;
            if (before === undefined)
                news.missing.push(`${row}: ${now}, and the table has no such row`);
            else if (now === undefined)
                news.missing.push(`${row}: is in the table, and was not counted`);
            else if (now - before > bound)
                news.grown.push(change());
            else if (before - now > bound)
                news.shrunk.push(change());
        }
    }
    return news;
}

function tell(title, lines) {
    if (lines.length !== 0)
        console.log(`${title}\n${lines.map((line) => `  ${line}`).join("\n")}`);
}

function showProfile(parts) {
    for (const part of parts.filter((part) => part.stage !== "nothing")) {
        const show = (figures, n) => Object.entries(figures).sort((a, b) => b[1] - a[1]).slice(0, n)
            .forEach(([name, instructions]) =>
                console.log(`${(instructions / part.commands).toFixed(1).padStart(10)}  ${name}`));
        console.log(`\n${part.command}, ${part.stage}: instructions per command, by library`);
        show(part.libraries, Infinity);
        console.log("and by function");
        show(part.functions, PROFILE_LINES);
    }
}

function main() {
    const { program, results, only, profile, update } = options();
    if (process.arch !== "x64" || !/\bavx2\b/.test(readFileSync("/proc/cpuinfo", "utf8"))) {
        console.log("left out: the figures are those of an x86-64 processor with AVX2");
        return LEFT_OUT;
    }
    const folder = mkdtempSync(join(tmpdir(), "atoll-instructions-"));
    let built, parts;
    try {
        built = count(resolve(program), only, folder);
        parts = readParts(folder);
    } finally {
        rmSync(folder, { recursive: true });
    }
    const counted = countedOf(parts);
    console.log(`${tableOf(counted).join("\n")}\n\nBuilt by ${built}`);
    if (profile)
        showProfile(parts);
    const text = readFileSync(results, "utf8");
    const { lines, begin, end, kept } = readTable(results, text);
    if (update) {
        lines.splice(begin, end - begin, ...tableOf(mergedOf(counted, kept, only)));
        writeFileSync(results, lines.join("\n").replace(BUILT_BY, built));
        return 0;
    }
    const others = BUILT_BY.exec(text)?.[0] ?? "no known tools";
    if (others !== built) {
        console.log(`left out: the table is of ${others}`);
        return LEFT_OUT;
    }
    const news = compare(counted, kept, only);
    tell("\nMore instructions than before:", news.grown);
    tell("\nNot the same rows:", news.missing);
    tell("\nFewer than before; take them into the table by check.mjs --update:", news.shrunk);
    return news.grown.length + news.missing.length === 0 ? 0 : 1;
}

process.exitCode = main();
