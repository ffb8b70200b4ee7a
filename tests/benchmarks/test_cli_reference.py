"""The reference of the commands is that of the program."""

from cli_reference import PAGE, page


def test_the_page_is_what_the_commands_say():
    assert PAGE.read_text() == page(), "python benchmarks/cli_reference.py"
