using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using Pandora.Fakes;
using Pandora.Server.Audit;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Audit;

public sealed class AuditLogTests : IDisposable
{
    private readonly ServiceProvider _services = new ServiceCollection().AddMetrics().AddSingleton<ServerMetrics>().BuildServiceProvider();
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 11, 26, 10, 0, 0, 123, TimeSpan.Zero));
    private readonly KeptLog _log = new();
    private readonly ConcurrentQueue<string> _lines = new();

    private ServerMetrics Metrics => _services.GetRequiredService<ServerMetrics>();

    public void Dispose()
    {
        _services.Dispose();
        _log.Dispose();
    }

    [Fact]
    public async Task Everything_that_is_queued_is_written_at_the_stop()
    {
        await using (var log = Open(Keep))
        {
            for (var i = 0; i < 1000; i++)
            {
                log.Write(Record(i));
            }
        }

        Assert.Equal(Enumerable.Range(0, 1000), _lines.Select(NumberOf));
        Assert.Equal(0, Metrics.AuditLostCount);
        Assert.StartsWith("""{"time":"2026-11-26T10:00:00.123Z","operation":"exec","execs":0}""", _lines.First());
    }

    [Fact]
    public async Task A_slow_disk_delays_no_request_and_what_does_not_fit_is_counted_and_said()
    {
        using var isFree = new ManualResetEventSlim();
        using var begun = new ManualResetEventSlim();
        await using (var log = Open(line =>
        {
            begun.Set();
            isFree.Wait();
            Keep(line);
        }))
        {
            log.Write(Record(0));
            begun.Wait();
            for (var i = 1; i <= AuditLog.QueueLength + 7; i++)
            {
                log.Write(Record(i));
            }

            Assert.Equal(7, Metrics.AuditLostCount);
            Assert.Empty(_lines);
            isFree.Set();
        }

        var lost = Assert.Single(_lines, l => l.Contains("lost", StringComparison.Ordinal));
        Assert.Equal("""{"time":"2026-11-26T10:00:00.123Z","operation":"lost","lost":7}""", lost.TrimEnd('\n'));
        Assert.Equal(
            Enumerable.Range(0, AuditLog.QueueLength + 1), _lines.Where(l => l != lost).Select(NumberOf));
        Assert.Contains("the queue is full", Assert.Single(_log.Lines).Text);
    }

    [Fact]
    public async Task A_disk_error_is_logged_once_a_minute_with_its_reason_and_said_when_it_is_over()
    {
        var isFull = true;
        var tried = 0;
        await using (var log = Open(line =>
        {
            tried++;
            if (isFull)
            {
                throw new IOException("no space left on device");
            }

            Keep(line);
        }))
        {
            for (var i = 0; i < 3; i++)
            {
                log.Write(Record(i));
            }

            await FakeNode.UntilAsync(() => Metrics.AuditLostCount == 3);
            Assert.StartsWith("1 lines are missing in the audit's file: no space left on device.", Assert.Single(_log.Lines).Text);
            _time.Advance(AuditLog.ReportInterval);
            log.Write(Record(3));
            await FakeNode.UntilAsync(() => _log.Lines.Count == 2);
            Assert.StartsWith("3 lines are missing", _log.Lines.Last().Text);
            isFull = false;
            log.Write(Record(4));
            await FakeNode.UntilAsync(() => _lines.Count == 2);
        }

        Assert.Equal(4, JsonDocument.Parse(_lines.First()).RootElement.GetProperty("lost").GetInt64());
        Assert.Equal(4, NumberOf(_lines.Last()));
        Assert.Equal(4, Metrics.AuditLostCount);
        // Once for each record, once to say what was lost, and once or twice more in vain.
        Assert.InRange(tried, 6, 8);
    }

    [Fact]
    public async Task A_loss_is_said_without_another_record()
    {
        var isFull = true;
        await using var log = Open(line =>
        {
            if (Volatile.Read(ref isFull))
            {
                throw new IOException("no space left on device");
            }

            Keep(line);
        });
        log.Write(Record(0));
        await FakeNode.UntilAsync(() => Metrics.AuditLostCount == 1);
        Volatile.Write(ref isFull, false);
        await FakeNode.UntilAsync(() =>
        {
            _time.Advance(AuditLog.RetryInterval);
            return !_lines.IsEmpty;
        });
        Assert.Equal(1, JsonDocument.Parse(Assert.Single(_lines)).RootElement.GetProperty("lost").GetInt64());
    }

    [Fact]
    public async Task A_loss_after_the_last_line_is_said_at_the_stop()
    {
        var isFull = true;
        await using (var log = Open(line =>
        {
            if (isFull)
            {
                throw new UnauthorizedAccessException("denied");
            }

            Keep(line);
        }))
        {
            log.Write(Record(0));
            await FakeNode.UntilAsync(() => Metrics.AuditLostCount == 1);
            isFull = false;
        }

        Assert.Equal(1, JsonDocument.Parse(Assert.Single(_lines)).RootElement.GetProperty("lost").GetInt64());
    }

    [Fact]
    public async Task A_full_directory_entry_is_an_error_like_others()
    {
        var data = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        try
        {
            var directory = AuditFile.DirectoryIn(data);
            Directory.CreateDirectory(AuditFile.NewestIn(directory));
            using var file = new AuditFile(directory, 1000, 2);
            await using (var log = Open(file.Append))
            {
                log.Write(Record(0));
                await FakeNode.UntilAsync(() => !_log.Lines.IsEmpty);
            }

            Assert.Contains(AuditFile.NewestIn(directory), Assert.Single(_log.Lines).Text);
        }
        finally
        {
            Directory.Delete(data, recursive: true);
        }
    }

    [Fact]
    public async Task No_text_can_forge_a_line_or_a_member()
    {
        const string Evil = "a\n{\"operation\":\"delete\"}\r\u0085\u2028\u0000\u001b[2J\",\"key\":\"root\",\"x\":\"\\\ud800 && 'b'";
        await using (var log = Open(Keep))
        {
            log.Write(Record(1) with { Command = Evil, Key = Evil, Sandbox = Evil, Project = Evil });
        }

        var line = Assert.Single(_lines);
        Assert.Equal(line.Length - 1, line.IndexOf('\n', StringComparison.Ordinal));
        Assert.DoesNotContain(line[..^1], c => char.IsControl(c) || c is '\u2028' or '\u2029');
        var read = JsonDocument.Parse(line).RootElement;
        Assert.Equal(
            ["time", "operation", "sandbox", "project", "key", "execs", "command"], read.EnumerateObject().Select(p => p.Name));
        Assert.Equal(Evil.Replace('\ud800', '\ufffd'), read.GetProperty("command").GetString());
        Assert.Contains("&& 'b'", line);
    }

    private static AuditRecord Record(int number) =>
        new() { Time = new DateTimeOffset(2026, 11, 26, 10, 0, 0, 123, TimeSpan.Zero), Operation = "exec", Execs = number };

    private static int NumberOf(string line) => JsonDocument.Parse(line).RootElement.GetProperty("execs").GetInt32();

    private AuditLog Open(AppendLine append) => new(append, Metrics, _time, () => _log.CreateLogger("audit"));

    private void Keep(ReadOnlySpan<byte> line) => _lines.Enqueue(Encoding.UTF8.GetString(line));
}
