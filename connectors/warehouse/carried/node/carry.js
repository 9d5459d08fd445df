// Reads one request a line, {"id", "sql", "from"}, and answers one line, {"id", "sql": [...]} or {"id", "error"}: the statement in
// DuckDB's words. A construct that the transpiler knows it cannot carry is an error, never a guess.
import { createInterface } from "node:readline";
import * as polyglot from "@polyglot-sql/sdk";

await polyglot.init?.();
for await (const line of createInterface({ input: process.stdin })) {
  const { id, sql, from } = JSON.parse(line);
  let answer;
  try {
    const r = polyglot.transpile(sql, from, "duckdb", { unsupportedLevel: "raise", complexityGuard: { maxParserDepth: 128, maxParenthesisDepth: 256 } });
    answer = r.success ? { id, sql: r.sql } : { id, error: String(r.error) };
  } catch (e) {
    answer = { id, error: String(e) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
