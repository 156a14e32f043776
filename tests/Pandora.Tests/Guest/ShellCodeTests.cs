using System.Diagnostics;
using System.Text;
using Pandora.Agent.Processes;

namespace Pandora.Tests.Guests;

/// <summary>Code of any length does the same. The host's bash runs it with the arguments that the agent gives.</summary>
public sealed class ShellCodeTests
{
    // execve(2): with its zero byte.
    private const int MostInOneArgument = (128 * 1024) - 1;

    [Theory]
    [InlineData("echo \"$#|$0|$*|$1|\" '${1}' \"a'b\" $'\\n' \\\\ \"\\\"\"")]
    [InlineData("return 3; echo after $?")]
    [InlineData("f() { return 4; }; f; echo $?; exit 7")]
    [InlineData("set -- a b; echo $# $1; shift; echo $1")]
    [InlineData("cat <<'E'\n$x `y` \"z\" 'q'\nE\ncat <<E\n$((1+2)) $(echo \"in\")\nE")]
    [InlineData("echo \u00e9\ud83d\ude00 | od -An -tx1; false")]
    [InlineData("trap 'echo bye' EXIT; kill -TERM $$")]
    [InlineData("echo $LINENO; declare -p | grep -c '^declare -- [a-z]'; echo \"${FUNCNAME[*]}|$BASH_SUBSHELL\"")]
    [InlineData("set -u; echo \"${1-none}\"; cat; echo $unset; echo not here")]
    [InlineData("set -e; false; echo not here")]
    [InlineData("exec echo replaced")]
    public void Long_code_does_what_short_code_does(string code)
    {
        var expected = Run(code);
        Assert.Equal(3, ShellCode.ArgumentsFor(code).Count);
        foreach (var length in new[] { MostInOneArgument, MostInOneArgument + 1, 1024 * 1024 })
        {
            // The rest is a comment behind the code, of one, two and four bytes a character.
            foreach (var filler in new[] { "x", "'\"$`\\", "\u00e9", "x\ud83d\ude00" })
            {
                var padded = new StringBuilder(code).Append("\n#");
                var rest = length - Encoding.UTF8.GetByteCount(padded.ToString());
                var count = rest / Encoding.UTF8.GetByteCount(filler);
                padded.Insert(padded.Length, filler, count).Append('x', rest - (count * Encoding.UTF8.GetByteCount(filler)));
                var text = padded.ToString();
                Assert.Equal(length, Encoding.UTF8.GetByteCount(text));
                Assert.Equal(length <= MostInOneArgument, ShellCode.ArgumentsFor(text).Count == 3);
                Assert.Equal(expected, Run(text));
            }
        }
    }

    [Theory]
    [InlineData(":", 0)]
    [InlineData("(", 2)]
    [InlineData("", 0)]
    [InlineData("#", 0)]
    [InlineData("\n", 0)]
    public void The_shortest_codes_are_run(string code, int exitCode) => Assert.Equal(exitCode, Run(code).ExitCode);

    [Theory]
    [InlineData("#!/bin/bash\necho ok\n#")]
    [InlineData("\n\necho ok\n#")]
    [InlineData("; echo no\n#")]
    [InlineData("& echo no\n#")]
    [InlineData("echo ok; (\n#")]
    [InlineData("echo ok; 'x\n#")]
    public void Long_code_begins_and_fails_as_short_code_does(string code)
    {
        var (exitCode, output, _) = Run(code);
        var padded = Run(code + new string('x', 300_000));
        Assert.Equal((exitCode, output), (padded.ExitCode, padded.Output));
    }

    [Fact]
    public void No_byte_of_long_code_is_changed_by_the_cuts()
    {
        var random = new Random(1);
        var text = new StringBuilder();
        string[] alphabet = ["x", "\u00e9", "\u20ac", "\ud83d\ude00", "\n", "\"", "$x", "`", "\\", " "];
        while (text.Length < 1024 * 1024)
        {
            text.Append(alphabet[random.Next(alphabet.Length)]);
        }

        var result = Run($"cat <<'the end'\n{text}\nthe end\n");
        Assert.Equal((0, $"{text}\n", ""), result);
    }

    [Fact]
    public void Pieces_fit_and_cut_no_character()
    {
        for (var shift = 0; shift < 3; shift++)
        {
            var code = new string('x', shift) + string.Concat(Enumerable.Repeat("\ud83d\ude00", 200_000));
            var pieces = ShellCode.ArgumentsFor(code).Skip(4).ToList();
            Assert.Equal(code, string.Concat(pieces));
            Assert.All(pieces, p =>
            {
                Assert.InRange(Encoding.UTF8.GetByteCount(p), 1, MostInOneArgument);
                Assert.False(char.IsLowSurrogate(p[0]) || char.IsHighSurrogate(p[^1]));
            });
        }

        // A half of a character where the cut would be: nothing is lost, and there is an end.
        var halves = new string('\ud83d', 300_000);
        Assert.Equal(halves, string.Concat(ShellCode.ArgumentsFor(halves).Skip(4)));
    }

    private static (int ExitCode, string Output, string Error) Run(string code)
    {
        var arguments = ShellCode.ArgumentsFor(code);
        Assert.Equal("bash", arguments[0]);
        using var bash = Process.Start(new ProcessStartInfo("bash", arguments.Skip(1))
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        bash.StandardInput.Close();
        var error = bash.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        var output = bash.StandardOutput.ReadToEnd();
        bash.WaitForExit();
        return (bash.ExitCode, output, error.GetAwaiter().GetResult());
    }
}
