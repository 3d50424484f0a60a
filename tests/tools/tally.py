"""What holds and what does not, counted, for the line at the end that tests/run adds up."""

passed = failed = 0


def expect(holds, what, *details):
    global passed, failed
    if holds:
        passed += 1
    else:
        failed += 1
        print("FAILED:", what, *details)


def finish():
    """The exit status."""
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0
