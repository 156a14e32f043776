using Pandora.Cli;

namespace Pandora.Tests.Cli;

public sealed class CommandTailTests
{
    [Theory]
    [InlineData("run uname -a", "run -- uname -a")]
    [InlineData("run -- uname -a", "run -- uname -a")]
    [InlineData("run --timeout 5 -q ls --json", "run --timeout 5 -q -- ls --json")]
    [InlineData("run --timeout=5 ls -l", "run --timeout=5 -- ls -l")]
    [InlineData("run -i tr -d x", "run -i -- tr -d x")]
    [InlineData("run -qi tr -d x", "run -qi -- tr -d x")]
    [InlineData("run -qe A=1 env -0", "run -qe A=1 -- env -0")]
    [InlineData("run -eA=1 env -0", "run -eA=1 -- env -0")]
    [InlineData("--json --url http://x run ls -l", "--json --url http://x run -- ls -l")]
    [InlineData("exec abc ls -l", "exec abc -- ls -l")]
    [InlineData("exec --json abc -- ls -l", "exec --json abc -- ls -l")]
    [InlineData("exec abc -i cat -n", "exec abc -i -- cat -n")]
    [InlineData("ls --json", "ls --json")]
    [InlineData("run --help", "run --help")]
    [InlineData("exec -h", "exec -h")]
    public void The_users_command_begins_at_its_first_word(string typed, string separated) =>
        Assert.Equal(separated, string.Join(' ', CommandTail.Separate(CommandLine.Create(), typed.Split(' '))));

    [Theory]
    [InlineData("run --nope true", "--nope")]
    [InlineData("run -x true", "-x")]
    [InlineData("run -qx true", "-qx")]
    [InlineData("exec --nope=1 abc true", "--nope=1")]
    [InlineData("exec abc --nope true", "--nope")]
    public void An_option_that_is_none_of_ours_is_not_taken_for_the_users_command(string typed, string option) =>
        Assert.Contains(
            $"'{option}'", Assert.Throws<UsageException>(() => CommandTail.Separate(CommandLine.Create(), typed.Split(' '))).Message);

    [Fact]
    public void One_word_is_shell_text_and_several_are_passed_as_they_are()
    {
        Assert.Equal("echo hi | wc", CommandTail.ToCode(["echo hi | wc"]));
        Assert.Equal("'echo' 'it'\\''s'", CommandTail.ToCode(["echo", "it's"]));
    }
}
