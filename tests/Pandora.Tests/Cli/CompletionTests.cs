using System.Diagnostics;
using Pandora.Tests.Client;
using static Pandora.Tests.Cli.CliProcess;

namespace Pandora.Tests.Cli;

public sealed class CompletionTests
{
    [Fact]
    public async Task Bash_completes_commands_options_and_ids()
    {
        await using var server = await ProcessServer.StartAsync();
        var script = (await RunAsync(["completion", "bash"])).Output;
        using var directory = new TemporaryLink();
        async Task<string[]> CompleteAsync(string line)
        {
            var words = line.Split(' ');
            using var bash = Process.Start(new ProcessStartInfo("bash", ["-c", $"""
                {script}
                COMP_LINE='{line}'; COMP_POINT=${"{#COMP_LINE}"}; COMP_WORDS=({line} {(line.EndsWith(' ') ? "''" : "")})
                COMP_CWORD={words.Length - 1}
                _pandora; printf '%s\n' "${"{COMPREPLY[@]}"}"
                """])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
                Environment = { ["PANDORA_URL"] = server.Url },
            })!;
            var (exitCode, output, error) = await EndAsync(bash);
            Assert.Equal((0, ""), (exitCode, error));
            return output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        }

        Assert.Equal(["exec"], await CompleteAsync($"{directory.Program} ex"));
        Assert.Equal(["down", "doctor"], await CompleteAsync($"{directory.Program} do"));
        Assert.Equal(["--timeout", "--tty"], await CompleteAsync($"{directory.Program} exec --t"));
        Assert.Equal([ScriptedProcess.Id], await CompleteAsync($"{directory.Program} logs abc k3"));
        Assert.Equal(["KILL"], await CompleteAsync($"{directory.Program} signal abc {ScriptedProcess.Id} K"));
    }

    [Theory]
    [InlineData("zsh", "#compdef pandora")]
    [InlineData("bash", "complete -o default -F _pandora pandora")]
    public async Task There_is_a_script_for_each_shell(string shell, string line)
    {
        var (exitCode, script, error) = await RunAsync(["completion", shell]);
        Assert.Equal((0, ""), (exitCode, error));
        Assert.Contains(line, script.Split('\n'));
        if (shell == "bash")
        {
            using var check = Process.Start(new ProcessStartInfo("bash", ["-n", "-c", script])
            {
                RedirectStandardError = true,
                RedirectStandardOutput = true,
            })!;
            Assert.Equal((0, "", ""), await EndAsync(check));
        }
    }

    // The entry script's name, as people type it.
    private sealed class TemporaryLink : IDisposable
    {
        private readonly string _directory = Directory.CreateTempSubdirectory("pandora-completion").FullName;

        public TemporaryLink() => File.CreateSymbolicLink(Program, Executable);

        public string Program => Path.Combine(_directory, "pandora");

        public void Dispose() => Directory.Delete(_directory, recursive: true);
    }
}
