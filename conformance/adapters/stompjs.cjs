// The specs of stompjs, with the released library, over WebSocket: `stompjs.cjs SOURCES`.
const { appendFileSync } = require('node:fs');
const { resolve } = require('node:path');
const Jasmine = require('jasmine');

const sources = resolve(process.argv[2]);
global.WebSocket = require('ws');
global.StompJs = require('@stomp/stompjs');
global.Stomp = global.StompJs.Stomp;
global.TEST = {
  destination: '/topic/chat.general',
  login: 'guest',
  password: 'guest',
  url: `ws://127.0.0.1:${process.env.BASCULE_HTTP}/ws`,
  // Nobody listens there.
  badUrl: 'ws://127.0.0.1:1',
  timeout: 5000,
  // KiB, as the suite's own settings for Node have it.
  largeMessageSize: 1023,
  testHeartBeatUsingWebWorkers: false,
};

const runner = new Jasmine({ projectBaseDir: sources });
runner.loadConfig({ spec_dir: 'spec', spec_files: ['unit/**/*.[sS]pec.js'], helpers: ['helpers/**/*.js'], random: false });
runner.clearReporters();
runner.addReporter({
  specDone({ fullName, status, failedExpectations }) {
    const outcome = status === 'pending' || status === 'excluded' ? 'skipped' : status;
    const detail = failedExpectations.map((failure) => failure.message).join('; ');
    appendFileSync(process.env.BASCULE_REPORT, `${JSON.stringify({ name: fullName, outcome, detail })}\n`);
    console.log(outcome, fullName, detail);
  },
});
runner.exitOnCompletion = false;
runner.execute().then((end) => process.exit(end.overallStatus === 'passed' ? 0 : 1));
