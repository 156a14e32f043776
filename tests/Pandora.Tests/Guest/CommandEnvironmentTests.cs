using Pandora.Agent.Processes;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Tests.Guests;

/// <summary>The variables of a process, and where its program is looked for.</summary>
public sealed class CommandEnvironmentTests
{
    private const string Usual = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    private static readonly Account User = new("user", 1000, 1000, [1000], "/home/user", "/bin/zsh");

    [Fact]
    public void A_process_has_the_variables_of_a_login_and_the_mark() => Assert.Equal(
        [Usual, "HOME=/home/user", "USER=user", "LOGNAME=user", "SHELL=/bin/zsh", "LANG=C.UTF-8", "__PANDORA_COMMAND=abc"],
        CommandEnvironment.Create(new StartRequest { Id = "abc", Code = "x" }, User));

    [Fact]
    public void The_request_has_the_last_word_but_not_over_the_mark()
    {
        var environment = CommandEnvironment.Create(
            new StartRequest
            {
                Id = "abc",
                Columns = 80,
                Environment = ["HOME", "/x", "PATH", "", "TERM", "dumb", "A", "b=c\nd", "__PANDORA_COMMAND", "other", "A", "last"],
            },
            User);
        Assert.Equal(environment.Count, environment.Select(v => v.Split('=')[0]).Distinct().Count());
        foreach (var variable in new[] { "HOME=/x", "PATH=", "TERM=dumb", "A=last", "__PANDORA_COMMAND=abc" })
        {
            Assert.Contains(variable, environment);
        }

        Assert.Contains(
            "TERM=xterm-256color", CommandEnvironment.Create(new StartRequest { Id = "abc", Columns = 1 }, User));
    }

    [Theory]
    [InlineData("ls", "/a:/b", "/a/ls /b/ls")]
    [InlineData("ls", "/a::/b:", "/a/ls ls /b/ls ls")] // execvp(3): an empty part is the current directory.
    [InlineData("ls", "", "ls")]
    [InlineData("./ls", "/a", "./ls")]
    [InlineData("/bin/ls", "/a", "/bin/ls")]
    public void A_program_is_looked_for_by_the_path_of_the_process(string program, string path, string tried)
    {
        var request = new StartRequest { Id = "a", Arguments = [program, "x"], Environment = ["XPATH", "/no", "PATH", path] };
        Assert.Equal(tried, string.Join(' ', CommandEnvironment.ProgramsOf(request, CommandEnvironment.Create(request, User))));
    }

    [Fact]
    public void Code_is_run_by_bash_wherever_the_path_leads()
    {
        var request = new StartRequest { Id = "a", Code = "x", Environment = ["PATH", "/evil"] };
        Assert.Equal(
            ["/bin/bash", "/usr/bin/bash"],
            CommandEnvironment.ProgramsOf(request, CommandEnvironment.Create(request, User)));
    }

    [Fact]
    public void A_program_must_be_named()
    {
        foreach (var arguments in new string[][] { [], [""] })
        {
            var request = new StartRequest { Id = "a", Arguments = arguments };
            var e = Assert.Throws<RequestFailedException>(
                () => CommandEnvironment.ProgramsOf(request, CommandEnvironment.Create(request, User)));
            Assert.Equal(FailureKind.Program, e.Kind);
        }
    }
}
