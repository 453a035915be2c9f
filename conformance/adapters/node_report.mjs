// A reporter for Node's test runner: each case as a line of JSON in $BASCULE_REPORT, named by its file, its suites and itself.
import { appendFileSync } from 'node:fs';
import { basename } from 'node:path';

export default async function* report(source) {
  const names = [];
  for await (const { type, data } of source) {
    if (type === 'test:start') {
      names.length = data.nesting;
      names[data.nesting] = data.name;
    }
    if (type === 'test:stdout' || type === 'test:stderr') yield data.message;
    if ((type !== 'test:pass' && type !== 'test:fail') || data.details.type === 'suite') continue;
    const skipped = data.skip !== undefined;
    const outcome = skipped ? 'skipped' : type === 'test:pass' ? 'passed' : 'failed';
    const path = [basename(data.file ?? ''), ...names.slice(0, data.nesting), data.name];
    const error = data.details.error;
    const detail = type === 'test:fail' ? String(error?.cause?.message ?? error?.message) : String(data.skip ?? '');
    appendFileSync(process.env.BASCULE_REPORT, `${JSON.stringify({ name: path.join(' > '), outcome, detail })}\n`);
    yield `${outcome} ${path.join(' > ')} ${detail}\n`;
  }
}
