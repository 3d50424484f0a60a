# Logs and the reports that must come out of them.
TESTS += tests/golden/run
