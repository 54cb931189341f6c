// Collects the cases of the suite and runs those whose names contain one of the words given, or all.
'use strict';

const { run } = require('./harness');
require('./ops');
require('./watches');
require('./sessions');

run(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(2);
});
