using System.CommandLine;
using System.Text;
using Pandora.Engine;
using Pandora.Server.Audit;
using Pandora.Server.Hosting;

namespace Pandora.Server.Commands;

/// <summary><c>audit</c>: shows the audit's files, whether a server runs or not.</summary>
internal static class AuditCommand
{
    private const int WrongUsage = 2, PlacesShown = 5;

    public static Command Create()
    {
        var project = new Option<string>("--project") { Description = "Only the lines of this project" };
        var since = new Option<string>("--since")
        {
            Description = "Only lines from this time on: 30m, 2h or 7d ago, or a time in UTC such as 2026-11-26 or 2026-11-26T10:00Z",
        };
        var until = new Option<string>("--until") { Description = "Only lines up to this time, which is given like that of --since" };
        var operation = new Option<string>("--operation")
        {
            Description = $"Only lines of this operation: {string.Join(", ", AuditFilter.Operations)}",
        };
        var sandbox = new Option<string>("--sandbox") { Description = "Only the lines of the sandbox with this id" };
        var key = new Option<string>("--key") { Description = "Only the lines of the key with this name or id" };
        var json = new Option<bool>("--json") { Description = "Print the lines as they are in the files: one JSON object each" };
        var command = new Command(
            "audit",
            "Show who did what with the sandboxes, when, and with which outcome, oldest first. It reads the audit's files, with and "
                + "without a running server. Exit code 2: the value of an option is wrong")
        {
            project, since, until, operation, sandbox, key, json,
        };
        command.SetAction(result =>
        {
            var now = TimeProvider.System.GetUtcNow();
            var (from, to) = (result.GetValue(since), result.GetValue(until));
            var filter = new AuditFilter
            {
                Project = result.GetValue(project),
                Since = from is null ? null : AuditFilter.ParseTime(from, now),
                Until = to is null ? null : AuditFilter.ParseTime(to, now),
                Operation = result.GetValue(operation),
                Sandbox = result.GetValue(sandbox),
                Key = result.GetValue(key),
            };
            if (FindMistake(filter, from, to) is { } mistake)
            {
                Console.Error.WriteLine($"pandora: {mistake}");
                return WrongUsage;
            }

            var options = Settings.Read<EngineOptions>(Settings.File());
            var target = Settings.Read<ServerOptions>(Settings.File()).Audit;
            using var output = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false), 64 * 1024);
            return Show(AuditFile.DirectoryIn(options.DataDir), target, filter, result.GetValue(json), output, Console.Error);
        });
        return command;
    }

    /// <summary>What is wrong with the values of the options; null when nothing is.</summary>
    internal static string? FindMistake(AuditFilter filter, string? since, string? until)
    {
        const string Times = "is no time: write 30m, 2h or 7d, or a time in UTC such as 2026-11-26 or 2026-11-26T10:00Z";
        if (since is not null && filter.Since is null)
        {
            return $"--since: '{since}' {Times}";
        }

        if (until is not null && filter.Until is null)
        {
            return $"--until: '{until}' {Times}";
        }

        if (filter.Since > filter.Until)
        {
            return "--since is later than --until, and no line can be between them";
        }

        return filter.Operation is { } operation && !AuditFilter.Operations.Contains(operation)
            ? $"--operation: '{operation}' is no operation; there are {string.Join(", ", AuditFilter.Operations)}"
            : null;
    }

    /// <summary>Shows the wanted lines.</summary>
    internal static int Show(
        string directory, AuditTarget target, AuditFilter filter, bool asJson, TextWriter output, TextWriter errors)
    {
        var (shown, read, lost) = (0, 0, 0L);
        var damaged = new List<string>();
        foreach (var line in AuditReader.Read(directory))
        {
            read++;
            if (line.Record is not { } record)
            {
                damaged.Add(line.Place);
                continue;
            }

            lost += filter.IsInTime(record) ? record.Lost ?? 0 : 0;
            if (!filter.IsWanted(record))
            {
                continue;
            }

            if (shown++ == 0 && !asJson)
            {
                output.WriteLine(AuditTable.Head);
            }

            output.WriteLine(asJson ? line.Text : AuditTable.Show(record));
        }

        output.Flush();
        if (shown == 0)
        {
            errors.WriteLine($"pandora: {NothingOf(directory, target, read)}");
        }

        if (lost > 0)
        {
            errors.WriteLine(
                $"pandora: {lost} lines of this time are missing: the disk was full or too slow. '--operation lost' says when");
        }

        if (damaged.Count > 0)
        {
            var places = string.Join(", ", damaged.Take(PlacesShown)) + (damaged.Count > PlacesShown ? ", …" : "");
            errors.WriteLine(
                $"pandora: {damaged.Count} lines cannot be read and were left out ({places}): a server was killed while it wrote them, or "
                    + "the files were changed");
        }

        return 0;
    }

    private static string NothingOf(string directory, AuditTarget target, int read)
    {
        if (read > 0)
        {
            return "the audit has no such line";
        }

        return target == AuditTarget.Log
            ? "there is no audit file: with PANDORA_AUDIT=log the audit is in the server's log only"
            : $"there is no audit yet: no server has written to {directory}";
    }
}
