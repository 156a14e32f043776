using System.Diagnostics;
using CsCheck;
using Pandora.Engine.Guests;

namespace Pandora.Tests.Guests;

/// <summary>The parts of the guest's script that the host's bash can run without a guest.</summary>
public sealed class ExecScriptTests
{
    [Fact]
    public void Bash_reads_any_quoted_text_unchanged() =>
        Gen.String[Gen.Char['\u0001', '\u00ff'], 0, 60]
            .Sample(text => Assert.Equal(text, Bash($"printf %s {ExecScript.Quote(text)}").Output), iter: 60);

    [Theory]
    [InlineData("exit 7", 7, "")]
    [InlineData("echo one\necho two", 0, "one\ntwo\n")]
    [InlineData("set -e; false; echo never", 1, "")]
    [InlineData("set -u; echo $nope", 127, "")]
    [InlineData("if", 2, "")]
    [InlineData("nosuchcommand", 127, "")]
    [InlineData("kill -TERM $$; echo never", 143, "")]
    [InlineData("kill -SEGV $$; echo never", 139, "")]
    [InlineData("trap 'echo mine' TERM; kill -TERM $$; echo on", 0, "mine\non\n")]
    [InlineData("cat <<'END'\n'quoted' \"text\" $HOME\nEND", 0, "'quoted' \"text\" $HOME\n")]
    [InlineData("echo $LINENO\necho $LINENO", 0, "1\n2\n")]
    public void Code_runs_as_bash_would_run_it(string code, int exitCode, string output)
    {
        var script = ExecScript.Create(new GuestCommand { Code = code, Cwd = "/" }, 1, "mark", "tag");
        var result = Bash(WithoutGuest(script));
        Assert.Equal((exitCode, $"{output}\0mark 2 {exitCode}\0"), (result.ExitCode, result.Output));
        Assert.EndsWith($"\0mark 2 {exitCode}\0", result.Errors);
    }

    [Fact]
    public void Environment_and_directory_are_set_and_SSH_variables_are_removed()
    {
        var command = new GuestCommand
        {
            Code = "echo \"$PWD|$GREETING|${SSH_CONNECTION-unset}|${__pandora-unset}\"",
            Cwd = "/usr",
            Env = new Dictionary<string, string> { ["GREETING"] = "it's $HOME\n" },
        };
        Assert.Equal(
            "/usr|it's $HOME\n|unset|unset\n\0mark 2 0\0", Bash(WithoutGuest(ExecScript.Create(command, 1, "mark", "tag"))).Output);
    }

    [Fact]
    public void A_missing_directory_is_reported_by_a_marker()
    {
        var result = Bash(
            WithoutGuest(ExecScript.Create(new GuestCommand { Code = "echo never", Cwd = "/no/such/place" }, 1, "0mark", "tag")));
        Assert.Equal("\00mark 1 cwd\0", result.Output);
    }

    // Replaces the paths that only a guest has: its cgroups and home directory.
    private static string WithoutGuest(string script) => script
        .Replace("/sys/fs/cgroup/exec/1", "/tmp/pandora-no-such-directory/x", StringComparison.Ordinal)
        .Replace("mkdir -p /tmp/pandora-no-such-directory/x", "true", StringComparison.Ordinal)
        .Replace("HOME=/root", "HOME=/", StringComparison.Ordinal);

    [Fact]
    public void Tracing_shows_only_the_clients_code()
    {
        var script = ExecScript.Create(new GuestCommand { Code = "set -x; echo one", Cwd = "/" }, 1, "mark", "tag");
        Assert.Equal("++ echo one\n\0mark 2 0\0", Bash(WithoutGuest(script)).Errors);
    }

    [Fact]
    public void The_end_of_code_that_redirects_its_outputs_is_still_reported()
    {
        var command = new GuestCommand { Code = "exec > /dev/null 2>&1; echo lost; exit 4", Cwd = "/" };
        Assert.Equal((4, "\0mark 2 4\0", "\0mark 2 4\0"), Bash(WithoutGuest(ExecScript.Create(command, 1, "mark", "tag"))));
    }

    private static (int ExitCode, string Output, string Errors) Bash(string script)
    {
        var start = new ProcessStartInfo("bash")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardInputEncoding = new System.Text.UTF8Encoding(false),
            StandardOutputEncoding = System.Text.Encoding.UTF8,
        };
        start.Environment["LANG"] = "C.UTF-8";
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add(script);
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, errors.GetAwaiter().GetResult());
    }
}
