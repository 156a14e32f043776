using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.HostTests;

// Long outputs and long code: they take long, and go the same way over SSH.
public sealed partial class AgentCommandTests
{
    public static TheoryData<string, string> LongTexts => new()
    {
        { "single quotes", $": \"{new string('\'', 256 * 1024)}\"; echo done" },
        { "double quotes", $": '{new string('"', 256 * 1024)}'; echo done" },
        { "escapes", $": '{string.Concat(Enumerable.Repeat("\\'\\''\"$`!\\n", 30_000))}'; echo done" },
        { "characters of several bytes", $": '{string.Concat(Enumerable.Repeat("é€🚀", 30_000))}'; echo done" },
        { "lines", string.Concat(Enumerable.Repeat(": 'it''s'\n", 25_000)) + "echo done" },
        {
            "SQL",
            "cat > /dev/null <<'END'\n"
                + string.Concat(Enumerable.Repeat("INSERT INTO t VALUES (1, 'it''s', \"two\");\n", 21_000)) + "END\necho done"
        },
    };

    private static readonly TimeSpan Reserve = TimeSpan.FromSeconds(2);

    [Theory]
    [MemberData(nameof(LongTexts), DisableDiscoveryEnumeration = true)]
    public async Task Long_code_costs_what_it_costs_bash_alone(string what, string code)
    {
        await WriteAsync("/tmp/code", code);
        foreach (var user in new[] { null, "user" })
        {
            // The second of each, when the guest has the programs in memory; a later one, when the machine was busy with something else.
            var (alone, taken) = (TimeSpan.Zero, TimeSpan.MaxValue);
            for (var i = 0; i < 2 || (i < 5 && taken >= (2 * alone) + Reserve); i++)
            {
                var result = await RunAsync("bash /tmp/code", As(user));
                Assert.Equal("done\n", result.Stdout);
                alone = result.Duration;
                result = await RunAsync(code, As(user));
                Assert.Equal(("done\n", "", 0), (result.Stdout, result.Stderr, result.ExitCode));
                taken = result.Duration;
            }

            Assert.True(taken < (2 * alone) + Reserve, $"{what}, {user ?? "root"}: {taken}, and bash alone {alone}");
        }
    }

    [Fact]
    public async Task Outputs_that_are_cut_say_so_in_every_kind_of_answer()
    {
        const int Most = Limits.MaxOutputBytes;
        const string Much = "head -c 30000000 /dev/zero | tr '\\0' 'x'";
        var text = await RunAsync($"{Much}; echo end >&2", As(null, seconds: 300));
        Assert.Equal((true, Most, "end\n", false), (text.IsTruncated, text.Stdout.Length, text.Stderr, text.IsLossy));

        var errors = await RunAsync($"{Much} >&2; echo end", As("user", seconds: 300));
        Assert.Equal((true, Most, "end\n"), (errors.IsTruncated, errors.Stderr.Length, errors.Stdout));

        var binary = await RunAsync(Much, Binary([], seconds: 300));
        Assert.Equal((true, Most), (binary.IsTruncated, binary.StdoutBytes!.Value.Length));

        // A character that the limit cuts is omitted.
        var euros = await RunAsync($"head -c {Most / 3 + 5} /dev/zero | sed 's/\\x00/€/g'", As(null, seconds: 300));
        Assert.Equal((true, false, Most / 3), (euros.IsTruncated, euros.IsLossy, euros.Stdout.Length));

        var exact = await RunAsync($"head -c {Most} /dev/zero | tr '\\0' 'x'", As(null, seconds: 300));
        Assert.Equal((false, Most), (exact.IsTruncated, exact.Stdout.Length));

        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(() => RunAsync($"{Much}; printf '\\377' >&2; sleep 600",
            As(null, seconds: 60)));
        Assert.Equal(
            (true, true, Most, "\uFFFD"), (timeout.IsTruncated, timeout.IsLossy, timeout.Stdout.Length, timeout.Stderr));
    }
}
