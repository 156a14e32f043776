using System.Text;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Logging.Console;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Projects;
using Pandora.Engine.Sandboxes;
using Pandora.Server.Hosting;
using Pandora.Tests.Api;

namespace Pandora.Tests.Audit;

/// <summary>Where the text of commands is, and where it is not.</summary>
public sealed class CommandTextTests
{
    private static readonly FindProject OptedIn = name => new Project(name) { AuditsCommands = true };

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_file_has_commands_only_where_the_project_opts_in_and_never_input_or_environment(bool isOptedIn)
    {
        await using var audited = await AuditedServer.StartAsync(projects: isOptedIn ? OptedIn : null);
        var api = audited.Server;
        await using var clock = api.Node.RunClock();
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        const string Secrets = """
            "stdin": "hunter1", "env": {"A": "hunter2"}
            """;
        await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", $$"""{"code": "echo 'a' && b", {{Secrets}}}""");
        await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", $$"""{"code": "break", {{Secrets}}}""");
        await using (var events = await EventStreamTests.ExecAsync(api, id, $$"""{"code": "echo streamed", {{Secrets}}}"""))
        {
            await events.RestAsync();
        }

        await EventStreamTests.StartAsync(api, id, """{"args": ["run", "a b", "it's", ""], "env": {"A": "hunter2"}, "tag": "hunter3"}""");
        await EventStreamTests.StartAsync(api, id, """{"code": "run", "stdin": true, "env": {"A": "hunter2"}}""");
        await api.SendAsync(
            HttpMethod.Post, $"/sandboxes/{id}/processes/{guest.Runs[^1].Id}/input", "hunter1", "application/octet-stream");
        var lines = await audited.StopAsync();
        string?[] commands = ["echo 'a' && b", "break", "echo streamed", """run 'a b' 'it'\''s' ''""", "run"];
        Assert.Equal(
            isOptedIn ? commands : new string?[5],
            lines.Where(l => AuditTests.OperationOf(l) is "exec" or "process_start")
                .Select(l => l.TryGetProperty("command", out var command) ? command.GetString() : null));
        Assert.Equal(8, lines.Count);
        Assert.DoesNotContain(lines, l => l.GetRawText().Contains("hunter", StringComparison.Ordinal));
        Assert.DoesNotContain(lines, l => l.TryGetProperty("command_truncated", out _));
    }

    [Fact]
    public async Task A_long_command_is_cut_and_marked()
    {
        await using var audited = await AuditedServer.StartAsync(projects: OptedIn);
        var id = await audited.Server.CreateAsync();
        await audited.Server.SendAsync(
            HttpMethod.Post, $"/sandboxes/{id}/exec", JsonSerializer.Serialize(new { code = "echo " + new string('x', 100_000) }));
        var line = (await audited.StopAsync()).Single(l => AuditTests.OperationOf(l) == "exec");
        Assert.Equal("echo " + new string('x', 4091), line.GetProperty("command").GetString());
        Assert.True(line.GetProperty("command_truncated").GetBoolean());
    }

    [Theory]
    [InlineData("a", 4096, false)]
    [InlineData("a", 4097, true)]
    [InlineData("é", 2048, false)]
    [InlineData("é", 2049, true)]
    [InlineData("€", 1365, false)]
    [InlineData("€", 1366, true)]
    [InlineData("😀", 1024, false)]
    [InlineData("😀", 1025, true)]
    [InlineData("\ud83d", 2000, true)]
    public void A_text_is_cut_at_a_character(string letter, int count, bool isTruncated)
    {
        var text = string.Concat(Enumerable.Repeat(letter, count));
        var cut = AuditedCommand.Of(text);
        Assert.Equal(isTruncated, cut.IsTruncated);
        Assert.StartsWith(cut.Text, text, StringComparison.Ordinal);
        Assert.Equal(0, cut.Text.Length % letter.Length);
        Assert.InRange(Encoding.UTF8.GetByteCount(cut.Text), isTruncated ? 4093 : 0, AuditedCommand.MaxBytes);
    }

    [Fact]
    public void Arguments_are_cut_while_they_are_joined()
    {
        foreach (var arguments in new[] { Enumerable.Repeat("a", 100_000).ToArray(), [new string('\'', 10_000_000)] })
        {
            var cut = AuditedCommand.Of(new ProcessSpec { Arguments = arguments });
            Assert.Equal((4096, true), (cut.Text.Length, cut.IsTruncated));
        }
    }

    [Theory]
    [InlineData(LogFormat.Text)]
    [InlineData(LogFormat.Json)]
    public async Task The_log_on_the_console_never_has_a_command(LogFormat format)
    {
        // The real formatters, on what the engine really logs.
        await using var services = new ServiceCollection().AddSingleton(TimeProvider.System)
            .AddLogging(l => l.AddPandoraLogs(format)).BuildServiceProvider();
        var name = format == LogFormat.Json ? ConsoleFormatterNames.Json : TextLogFormatter.FormatterName;
        using var written = new FormattedLog(services.GetServices<ConsoleFormatter>().Single(f => f.Name == name));
        await using var audited = await AuditedServer.StartAsync(
            projects: OptedIn, logging: l => l.AddProvider(written).AddFilter<FormattedLog>(null, LogLevel.Trace));
        var id = await audited.Server.CreateAsync();
        await audited.Server.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "echo hunter2"}""");
        await EventStreamTests.StartAsync(audited.Server, id, """{"args": ["run", "hunter2"]}""");
        Assert.Equal(2, (await audited.StopAsync()).Count(l => l.TryGetProperty("command", out _)));
        var text = written.Text;
        Assert.Contains($"exec {id} outcome=ok project=default exit_code=0 ms=", text);
        Assert.Contains($"process_start {id} outcome=", text);
        Assert.DoesNotContain("hunter", text);
        Assert.DoesNotContain("echo", text);
    }

    [Fact]
    public void No_member_that_loggers_print_has_the_command()
    {
        var line = new AuditLine(AuditOperation.Exec) { Command = AuditedCommand.Of("hunter2") };
        Assert.DoesNotContain(line, m => $"{m.Value}".Contains("hunter", StringComparison.Ordinal));
        Assert.Equal(line.Count, line.Select((m, i) => line[i].Key == m.Key).Count(same => same));
        Assert.DoesNotContain("hunter", $"{line}");
    }

    private sealed class FormattedLog(ConsoleFormatter formatter) : ILoggerProvider, ISupportExternalScope, ILogger
    {
        private readonly StringWriter _text = new();
        private readonly Lock _lock = new();
        private IExternalScopeProvider? _scopes;

        public string Text
        {
            get
            {
                lock (_lock)
                {
                    return $"{_text}";
                }
            }
        }

        public ILogger CreateLogger(string categoryName) => this;

        public void SetScopeProvider(IExternalScopeProvider scopeProvider) => _scopes = scopeProvider;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter1)
        {
            lock (_lock)
            {
                formatter.Write(new LogEntry<TState>(logLevel, "test", eventId, state, exception, formatter1), _scopes, _text);
            }
        }

        public void Dispose() => _text.Dispose();
    }
}
