using Pandora.Cli;

namespace Pandora.Tests.Cli;

public sealed class CommandTailTests
{
    [Theory]
    [InlineData("run uname -a", "run -- uname -a")]
    [InlineData("run -- uname -a", "run -- uname -a")]
    [InlineData("run --timeout 5 -q ls --json", "run --timeout 5 -q -- ls --json")]
    [InlineData("run --timeout=5 ls -l", "run --timeout=5 -- ls -l")]
    [InlineData("exec abc ls -l", "exec abc -- ls -l")]
    [InlineData("exec --json abc -- ls -l", "exec --json abc -- ls -l")]
    [InlineData("ls --json", "ls --json")]
    [InlineData("run --help", "run --help")]
    public void The_users_command_begins_at_its_first_word(string typed, string separated) =>
        Assert.Equal(separated, string.Join(' ', CommandTail.Separate(typed.Split(' '))));

    [Fact]
    public void One_word_is_shell_text_and_several_are_passed_as_they_are()
    {
        Assert.Equal("echo hi | wc", CommandTail.ToCode(["echo hi | wc"]));
        Assert.Equal("'echo' 'it'\\''s'", CommandTail.ToCode(["echo", "it's"]));
    }
}
