// Items read from files, piece by piece: a large one never is in memory as a whole, and the page stays quick.

export const FORMATS = [["", "by its name"], ["jsonl", "JSON, one value in a line"], ["csv", "CSV, the first row names the columns"], ["lines", "plain lines"], ["json", "one JSON list"]];

/** The format that a file's name speaks of. */
export function formatOf(name) {
  const end = name.toLowerCase().split(".").at(-1);
  return { jsonl: "jsonl", ndjson: "jsonl", json: "json", csv: "csv" }[end] ?? "lines";
}

/** Yields the items of `file`: values of JSON, objects for rows of CSV, or texts. */
export async function* itemsOf(file, format) {
  const said = format || formatOf(file.name);
  if (said === "json") yield* listIn(await file.text());
  else if (said === "csv") yield* recordsOf(textsOf(file));
  else yield* linesOf(textsOf(file), said === "jsonl" ? valueOf : (line) => line);
}

async function* textsOf(file) {
  const reader = file.stream().pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function* linesOf(texts, read) {
  let rest = "";
  let number = 0;
  for await (const text of texts) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      number += 1;
      if (line.trim()) yield read(line.replace(/\r$/, ""), number);
    }
  }
  if (rest.trim()) yield read(rest, number + 1);
}

function valueOf(line, number) {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw new Error(`line ${number.toLocaleString("en")} is no JSON: ${line.slice(0, 60)} (${error.message})`);
  }
}

function listIn(text) {
  const found = JSON.parse(text);
  if (!Array.isArray(found)) throw new Error("the file holds one JSON value that is no list");
  return found;
}

async function* recordsOf(texts) {
  let names = null;
  for await (const row of rowsOf(texts)) {
    if (row.length === 1 && row[0] === "") continue; // an empty line
    if (names === null) names = row;
    else yield Object.fromEntries(names.map((name, n) => [name || `column ${n + 1}`, row[n] ?? ""]));
  }
}

/** Yields the rows of CSV (RFC 4180): quotes may hold commas, line breaks and doubled quotes. */
export async function* rowsOf(texts) {
  let row = [];
  let cell = "";
  let quoted = false; // inside of quotes
  let ended = false; // behind the quote that may be the closing one
  let last = "";
  for await (const text of texts) {
    for (const letter of last === "" ? text.replace(/^\ufeff/, "") : text) {
      if (quoted && ended && letter === '"') [cell, ended] = [cell + '"', false];
      else if (quoted && !ended) letter === '"' ? (ended = true) : (cell += letter);
      else if (letter === '"' && cell === "" && !ended) quoted = true;
      else if (letter === ",") [row, cell, quoted, ended] = [[...row, cell], "", false, false];
      else if (letter === "\n") {
        yield [...row, quoted ? cell : cell.replace(/\r$/, "")];
        [row, cell, quoted, ended] = [[], "", false, false];
      } else if (!(ended && letter === "\r")) cell += letter;
      last = letter;
    }
  }
  if (quoted && !ended) throw new Error("the file ends inside of quotes");
  if (cell || row.length) yield [...row, cell];
}

/** Items typed in: a line that is JSON is taken as that, any other as text. */
export function typed(text) {
  return text.split(/\r?\n/).filter((line) => line.trim()).map((line) => {
    try {
      return JSON.parse(line);
    } catch {
      return line;
    }
  });
}
