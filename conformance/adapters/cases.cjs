// Small cases for clients whose packages have no tests of their own: each runs alone, has 20 seconds, and is reported.
const { appendFileSync } = require('node:fs');

const LIMIT_MS = 20000;

module.exports = async function run(cases) {
  let failed = 0;
  for (const [name, body] of Object.entries(cases)) {
    let detail = '';
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`nothing within ${LIMIT_MS} ms`)), LIMIT_MS);
    });
    try {
      await Promise.race([body(), late]);
    } catch (error) {
      failed += 1;
      detail = String(error.stack ?? error);
    }
    clearTimeout(timer);
    const outcome = detail === '' ? 'passed' : 'failed';
    appendFileSync(process.env.BASCULE_REPORT, `${JSON.stringify({ name, outcome, detail })}\n`);
    console.log(outcome, name, detail);
  }
  process.exit(failed === 0 ? 0 : 1);
};
