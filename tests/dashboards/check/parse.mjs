// Parses each query of standard input (JSON: [{"language": "promql" | "traceql", "query": ...}]) with the grammar that
// Grafana's own editor uses; writes its tree, or what it cannot read. Must never guess: an error node is an error.
import { readFileSync } from "node:fs";
import { parser as promql } from "@prometheus-io/lezer-promql";
import { parser as traceql } from "@grafana/lezer-traceql";

const parsers = { promql, traceql };

function tree(node, text) {
  const children = [];
  for (let child = node.firstChild; child !== null; child = child.nextSibling) children.push(tree(child, text));
  return { name: node.name, from: node.from, to: node.to, text: text.slice(node.from, node.to), children };
}

function errors(node) {
  const own = node.name === "⚠" ? [`${node.from}: ${node.text}`] : [];
  return own.concat(...node.children.map(errors));
}

const asked = JSON.parse(readFileSync(0, "utf8"));
const told = asked.map(({ language, query }) => {
  const made = tree(parsers[language].parse(query).topNode, query);
  return { tree: made, errors: errors(made) };
});
process.stdout.write(JSON.stringify(told));
