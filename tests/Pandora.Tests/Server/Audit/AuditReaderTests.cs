using System.Globalization;
using Pandora.Server.Audit;
using Pandora.Server.Commands;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Audit;

/// <summary>What <c>./pandora audit</c> shows.</summary>
public sealed class AuditReaderTests : IDisposable
{
    private static readonly DateTimeOffset Now = new(2026, 11, 26, 12, 0, 0, TimeSpan.Zero);
    private readonly string _folder = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Files_are_read_oldest_first_and_what_is_damaged_is_left_out_and_said()
    {
        Write("audit-000010.jsonl", Line("10:00", "create"), "{\"time\":\"2026-11-26T10:01:00.000Z\",\"opera");
        Write("audit-000009.jsonl", Line("09:00", "create"));
        File.WriteAllText(Path.Combine(_folder, "audit.jsonl"), Line("11:00", "delete") + "\nnull\n[]\n{}\n\0\0\0\n{\"time\":\"20");
        var (output, errors) = Show(new AuditFilter(), asJson: true);
        Assert.Equal([Line("09:00", "create"), Line("10:00", "create"), Line("11:00", "delete")], output);
        Assert.Equal(
            "pandora: 6 lines cannot be read and were left out (audit-000010.jsonl:2, audit.jsonl:2, audit.jsonl:3, audit.jsonl:4, "
                + "audit.jsonl:5, …): a server was killed while it wrote them, or the files were changed",
            Assert.Single(errors));
    }

    [Theory]
    [InlineData(null, null, null, null, null, null, "1 2 3 4")]
    [InlineData("web", null, null, null, null, null, "1 3")]
    [InlineData(null, "s2", null, null, null, null, "2 4")]
    [InlineData(null, null, "exec", null, null, null, "3 4")]
    [InlineData(null, null, null, "ci", null, null, "1 4")]
    [InlineData(null, null, null, "0a1b2c3d", null, null, "2")]
    [InlineData(null, null, null, null, "90m", null, "3 4")]
    [InlineData(null, null, null, null, "2026-11-26T10:00Z", "2026-11-26T11:00:00Z", "2 3")]
    [InlineData("web", "s1", "exec", null, "2h", "1h", "3")]
    [InlineData("none", null, null, null, null, null, "")]
    public void Lines_are_filtered(
        string? project, string? sandbox, string? operation, string? key, string? since, string? until, string wanted)
    {
        Write(
            "audit.jsonl",
            Line("09:00", "create", """ "project":"web","sandbox":"s1","key":"ci","execs":1 """),
            Line("10:00", "create", """ "project":"db","sandbox":"s2","key_id":"0a1b2c3d","execs":2 """),
            Line("11:00", "exec", """ "project":"web","sandbox":"s1","execs":3 """),
            Line("11:59", "exec", """ "project":"db","sandbox":"s2","key":"ci","execs":4 """));
        var filter = new AuditFilter
        {
            Project = project,
            Sandbox = sandbox,
            Operation = operation,
            Key = key,
            Since = since is null ? null : AuditFilter.ParseTime(since, Now)!.Value,
            Until = until is null ? null : AuditFilter.ParseTime(until, Now)!.Value,
        };
        var (output, errors) = Show(filter, asJson: true);
        Assert.Equal(wanted, string.Join(' ', output.Select(l => l.Split("\"execs\":")[1].TrimEnd('}', ' '))));
        Assert.Equal(wanted.Length == 0 ? ["pandora: the audit has no such line"] : [], errors);
    }

    [Theory]
    [InlineData("30s", "2026-11-26T11:59:30Z")]
    [InlineData("30m", "2026-11-26T11:30:00Z")]
    [InlineData("2h", "2026-11-26T10:00:00Z")]
    [InlineData("7d", "2026-11-19T12:00:00Z")]
    [InlineData("2000000000d", "0001-01-01T00:00:00Z")]
    [InlineData("2000000000h", "0001-01-01T00:00:00Z")]
    [InlineData("2026-11-26", "2026-11-26T00:00:00Z")]
    [InlineData("2026-11-26T10:00", "2026-11-26T10:00:00Z")]
    [InlineData("2026-11-26T10:00Z", "2026-11-26T10:00:00Z")]
    [InlineData("2026-11-26T10:00:01.5+02:00", "2026-11-26T08:00:01.5Z")]
    [InlineData("", null)]
    [InlineData("h", null)]
    [InlineData("-2h", null)]
    [InlineData("2 h", null)]
    [InlineData("2w", null)]
    [InlineData("99999999999h", null)]
    [InlineData("yesterday", null)]
    [InlineData("11/26/2026", null)]
    [InlineData("2026-13-01", null)]
    public void Times_are_read(string text, string? time) => Assert.Equal(
        time is null ? null : DateTimeOffset.Parse(time, CultureInfo.InvariantCulture), AuditFilter.ParseTime(text, Now));

    [Theory]
    [InlineData("x", null, null, "--since: 'x' is no time")]
    [InlineData(null, "x", null, "--until: 'x' is no time")]
    [InlineData("1h", "2h", null, "--since is later than --until")]
    [InlineData(null, null, "exe", "--operation: 'exe' is no operation; there are create, exec, process_start,")]
    [InlineData("2h", "1h", "lost", null)]
    public void A_wrong_value_is_named(string? since, string? until, string? operation, string? words)
    {
        var filter = new AuditFilter
        {
            Operation = operation,
            Since = AuditFilter.ParseTime(since ?? "", Now),
            Until = AuditFilter.ParseTime(until ?? "", Now),
        };
        var mistake = AuditCommand.FindMistake(filter, since, until);
        if (words is null)
        {
            Assert.Null(mistake);
        }
        else
        {
            Assert.StartsWith(words, mistake);
        }
    }

    [Fact]
    public void People_get_a_table_in_which_no_text_can_act()
    {
        Write(
            "audit.jsonl",
            Line("09:00", "exec", """ "outcome":"ok","exit_code":4,"sandbox":"s1","project":"web","key":"ci","address":"::1","ms":1.25 """),
            Line("09:01", "end", """ "outcome":"ok","sandbox":"s1","reason":"idle","ms":1 """),
            Line("09:02", "exec", """ "outcome":"ok","exit_code":0,"command":"a\n\u001b[2J\u202e😀\tb","command_truncated":true """));
        var (output, errors) = Show(new AuditFilter(), asJson: false);
        Assert.Equal(4, output.Length);
        Assert.Empty(errors);
        Assert.Equal(
            ["TIME", "(UTC)", "OPERATION", "OUTCOME", "SANDBOX", "PROJECT", "KEY", "ADDRESS", "MS", "DETAILS"], Words(output[0]));
        Assert.Equal(["2026-11-26", "09:00:00.000", "exec", "exit", "4", "s1", "web", "ci", "::1", "1.3"], Words(output[1]));
        Assert.Equal(["2026-11-26", "09:01:00.000", "end", "ok", "s1", "-", "(server)", "-", "1.0", "reason=idle"], Words(output[2]));
        Assert.EndsWith(@"  command=a\n?[2J?😀\tb…", output[3]);
        Assert.Equal(output[1].IndexOf("s1", StringComparison.Ordinal), output[0].IndexOf("SANDBOX", StringComparison.Ordinal));
    }

    [Fact]
    public void Missing_lines_are_said_whatever_is_wanted()
    {
        Write("audit.jsonl", Line("09:00", "lost", """ "lost":12 """), Line("10:00", "exec", """ "project":"web" """));
        Assert.StartsWith("pandora: 12 lines of this time are missing", Assert.Single(Show(new AuditFilter { Project = "web" }).Errors));
        Assert.Empty(Show(new AuditFilter { Since = Now.AddHours(-2) }).Errors);
    }

    [Fact]
    public void Where_there_is_no_file_it_says_so()
    {
        Assert.Equal($"pandora: there is no audit yet: no server has written to {_folder}", Assert.Single(Show(new AuditFilter()).Errors));
        using var errors = new StringWriter();
        AuditCommand.Show(Path.Combine(_folder, "none"), AuditTarget.Log, new AuditFilter(), false, TextWriter.Null, errors);
        Assert.Contains("PANDORA_AUDIT=log", $"{errors}");
    }

    [Fact]
    public async Task A_file_that_a_server_writes_meanwhile_is_read_without_a_gap()
    {
        using var file = new AuditFile(_folder, 200, 1000);
        var written = 0;
        var writing = Task.Run(() =>
        {
            for (var i = 0; i < 2000; i++)
            {
                file.Append(System.Text.Encoding.UTF8.GetBytes(Line("09:00", "exec", $"\"execs\":{i}") + "\n"));
                Volatile.Write(ref written, i + 1);
            }
        });
        do
        {
            var before = Volatile.Read(ref written);
            var numbers = AuditReader.Read(_folder).Select(l => l.Record?.Execs).OfType<int>().ToList();
            Assert.Equal(Enumerable.Range(0, numbers.Count), numbers);
            Assert.True(numbers.Count >= before, $"{numbers.Count} of {before}");
        }
        while (!writing.IsCompleted);
        await writing;
    }

    private static string Line(string time, string operation, string members = "") =>
        $"{{\"time\":\"2026-11-26T{time}:00.000Z\",\"operation\":\"{operation}\"{(members.Length > 0 ? "," : "")}{members}}}";

    private static string[] Words(string row) => row.Split(' ', StringSplitOptions.RemoveEmptyEntries);

    private void Write(string name, params string[] lines) => File.WriteAllLines(Path.Combine(_folder, name), lines);

    private (string[] Output, string[] Errors) Show(AuditFilter filter, bool asJson = false)
    {
        using var output = new StringWriter();
        using var errors = new StringWriter();
        Assert.Equal(0, AuditCommand.Show(_folder, AuditTarget.File, filter, asJson, output, errors));
        return (Lines(output), Lines(errors));
    }

    private static string[] Lines(StringWriter text) => $"{text}".Split('\n', StringSplitOptions.RemoveEmptyEntries);
}
