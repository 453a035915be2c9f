// A reporter for vitest: each case as a line of JSON in $BASCULE_REPORT, named by its file, its suites and itself.
import { appendFileSync } from 'node:fs';

const OUTCOMES = { pass: 'passed', fail: 'failed' };

function tell(task, above) {
  const path = [...above, task.name];
  if (task.tasks) {
    for (const inner of task.tasks) tell(inner, path);
    // A file that does not load, or a hook that fails, has no case to say so.
    if (task.result?.state !== 'fail' || task.tasks.some((inner) => inner.result?.state === 'fail')) return;
  }
  const outcome = OUTCOMES[task.result?.state] ?? 'skipped';
  const detail = (task.result?.errors ?? []).map((error) => error.message).join('; ');
  appendFileSync(process.env.BASCULE_REPORT, `${JSON.stringify({ name: path.join(' > '), outcome, detail })}\n`);
  console.log(`${outcome} ${path.join(' > ')} ${detail}`);
}

export default class Report {
  onFinished(files) {
    for (const file of files) tell(file, []);
  }
}
