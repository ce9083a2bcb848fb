// The suite's own word on results: its tests, the results that it publishes, and its own verdict on each result.
// node judge.mjs SUITE RESULTS.json...: prints one JSON document. Works with every release of the suite since 0.4.5.
import fs from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { pathToFileURL } from 'node:url'

const [directory, ...files] = process.argv.slice(2)

const load = async (...names) => {
  for (const name of names) {
    const file = path.join(directory, name)
    if (fs.existsSync(file)) return import(pathToFileURL(file))
  }
}

const suites = (await load('tests/index.mjs')).default
const extra = (await load('tests/surrogate-control.mjs'))?.default // 0.4.5 keeps it apart; its client adds it, too
if (extra && !suites.some(suite => suite.id === extra.id)) suites.push(extra)
const published = (await load('results/index.mjs')).default
const { determineTestResult } = await load('test-engine/lib/results.mjs', 'lib/display.mjs')

// what stands in the third place of a verdict
const words = {
  '-': 'untested',
  '✅': 'pass',
  '⛔️': 'fail',
  '⚠️': 'optional_fail',
  Y: 'yes',
  N: 'no',
  '🔹': 'setup_fail',
  '⁉️': 'harness_fail',
  '⚪️': 'dependency_fail',
  '↻': 'retry'
}
const read = file => JSON.parse(fs.readFileSync(file, 'utf8'))
const judge = results =>
  Object.fromEntries(suites.flatMap(suite => suite.tests.map(test =>
    [test.id, words[determineTestResult(suites, test.id, results)[2]]]
  )))

process.stdout.write(JSON.stringify({
  tests: suites.flatMap(suite => suite.tests.map(test => ({
    id: test.id,
    name: test.name,
    suite: suite.id,
    kind: test.kind || 'required',
    applies: !test.browser_only // to a cache in front of a server
  }))),
  published: published.map(one => ({
    name: one.name,
    version: one.version || '',
    type: one.type,
    verdicts: judge(read(path.join(directory, 'results', one.file)))
  })),
  runs: files.map(file => judge(read(file)))
}))
