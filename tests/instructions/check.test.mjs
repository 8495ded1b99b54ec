// That check.mjs sees what it is there to see: one row is counted and compared with tables in which
// its figure is another one.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const check = join(dirname(fileURLToPath(import.meta.url)), "check.mjs");
const program = process.env.INSTRUCTIONS;
const command = "agent.update", label = "decode: body to commands";
let folder, results, built, figure, shown;

function run(...options) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [check, "--results", results,
        "--only", `${command}|decode`, ...(program ? ["--program", program] : []), ...options],
    { encoding: "utf8" });
    return { status, output: stdout + stderr };
}

function write(value, row = label, by = built) {
    writeFileSync(results, ["# R", "", `Built by ${by}.`, "",
        `| Instructions per command | ${command} |`, "|---|--:|", `| ${row} | ${value} |`, "",
        "behind it", ""].join("\n"));
}

before(() => {
    folder = mkdtempSync(join(tmpdir(), "atoll-check-"));
    results = join(folder, "RESULTS.md");
    write(1);
    const { output } = run();
    built = /^Built by (.*)$/m.exec(output)?.[1];
    shown = /^\| decode: body to commands \| ([\d ]+) \|$/m.exec(output)?.[1];
    figure = Number(shown?.replaceAll(" ", ""));
    assert.ok(figure > 0, output);
});

after(() => rmSync(folder, { recursive: true }));

test("the same figure passes", () => {
    write(figure);
    const { status, output } = run();
    assert.equal(status, 0, output);
    assert.doesNotMatch(output, /before/);
});

test("5 % more than the table says fails, and names the row and both figures", () => {
    write(Math.floor(figure / 1.06));
    const { status, output } = run();
    assert.equal(status, 1, output);
    assert.match(output, /More instructions than before/);
    assert.match(output, new RegExp(
        `${command}, decode: ${Math.floor(figure / 1.06)} before, ${figure} now \\(\\+6`));
});

test("less than that does not", () => {
    write(Math.ceil(figure / 1.04));
    assert.equal(run().status, 0);
});

test("5 % less is told, and is no failure", () => {
    write(Math.ceil(figure * 1.07));
    const { status, output } = run();
    assert.equal(status, 0, output);
    assert.match(output, /Fewer than before[^]*agent\.update, decode/);
});

test("figures of another compiler are not compared, and that is said", () => {
    write(1, label, "gcc 1.0, glibc 1.0");
    const { status, output } = run();
    assert.equal(status, 77, output);
    assert.match(output, /left out: the table is of gcc 1\.0, glibc 1\.0/);
});

test("a row that the table does not have fails", () => {
    write(figure, "decide");
    const { status, output } = run();
    assert.equal(status, 1, output);
    assert.match(output, /agent\.update, decode: \d+, and the table has no such row/);
});

test("a row that nobody counts is refused", () => {
    write(figure, "guess");
    const { status, output } = run();
    assert.equal(status, 2, output);
    assert.match(output, /no row is called "guess"/);
});

test("--update writes what was counted, and leaves the rest of the file alone", () => {
    write(figure * 2, label, "gcc 1.0, glibc 1.0");
    assert.equal(run("--update").status, 0);
    const text = readFileSync(results, "utf8");
    assert.match(text, new RegExp(`^\\| ${label} \\| ${shown} \\|$`, "m"));
    assert.ok(text.startsWith(`# R\n\nBuilt by ${built}.\n`), text);
    assert.ok(text.endsWith("|\n\nbehind it\n"), text);
    assert.equal(run().status, 0);
});

test("a part of a name that no row has is refused", () => {
    const { status, output } = run("--only", "no such thing");
    assert.equal(status, 2, output);
    assert.match(output, /no row is called anything with 'no such thing' in it/);
});
