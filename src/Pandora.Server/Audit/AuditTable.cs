using System.Globalization;
using System.Text;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Audit;

/// <summary>Shows lines of the audit to people, in columns. The widths are fixed, so that lines can be shown as they are read.</summary>
internal static class AuditTable
{
    private static readonly string End = Label.Of(AuditOperation.End);

    /// <summary>The head of the table.</summary>
    public static string Head { get; } = Row("TIME (UTC)", "OPERATION", "OUTCOME", "SANDBOX", "PROJECT", "KEY", "ADDRESS", "MS", "DETAILS");

    /// <summary>The row of a line.</summary>
    public static string Show(AuditRecord line) => Row(
        line.Time.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss.fff", CultureInfo.InvariantCulture), line.Operation, OutcomeOf(line),
        line.Sandbox, line.Project, WhoOf(line), line.Address, line.Ms?.ToString("0.0", CultureInfo.InvariantCulture), DetailsOf(line));

    private static string Row(
        string time, string operation, string? outcome, string? sandbox, string? project, string? key, string? address, string? duration,
        string? details) =>
        $"{time,-23}  {Safe(operation),-15} {Safe(outcome),-18} {Safe(sandbox),-24} {Safe(project),-12} {Safe(key),-12} "
            + $"{Safe(address),-15} {duration ?? "-",10}  {details}".TrimEnd();

    private static string? OutcomeOf(AuditRecord line) =>
        line is { Outcome: AuditLine.Ok, ExitCode: { } code and not 0 }
            ? string.Create(CultureInfo.InvariantCulture, $"exit {code}")
            : line.Outcome;

    private static string? WhoOf(AuditRecord line) => line.Operation == End ? "(server)" : line.Key ?? line.KeyId;

    private static string DetailsOf(AuditRecord line)
    {
        var details = new StringBuilder();
        Add("reason", line.Reason);
        Add("template", line.Template);
        Add("process", line.Process);
        Add("signal", line.Signal);
        Add("input_bytes", line.InputBytes);
        Add("path", line.Path);
        Add("target", line.Target);
        Add("port", line.Port);
        Add("public", line.Public is { } isPublic ? (isPublic ? "true" : "false") : null);
        Add("bytes", line.Bytes);
        Add("egress", line.Egress);
        Add("replayed", line.Replayed is true ? "true" : null);
        Add("execs", line.Execs);
        Add("lived_s", line.LivedS);
        Add("lost", line.Lost);
        Add("command", line.Command);
        return details.Append(line.CommandTruncated is true ? "…" : "").ToString();

        void Add(string name, object? value)
        {
            if (value is not null)
            {
                details.Append(details.Length > 0 ? " " : "").Append(name).Append('=').Append(Safe(string.Create(
                    CultureInfo.InvariantCulture, $"{value}")));
            }
        }
    }

    // A command may contain line breaks, control sequences of terminals, and characters that change the direction of text.
    private static string Safe(string? text)
    {
        if (string.IsNullOrEmpty(text))
        {
            return "-";
        }

        var safe = new StringBuilder(text.Length);
        foreach (var rune in text.EnumerateRunes())
        {
            _ = Rune.GetUnicodeCategory(rune) switch
            {
                _ when rune.Value == '\n' => safe.Append("\\n"),
                _ when rune.Value == '\t' => safe.Append("\\t"),
                UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
                    or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned => safe.Append('?'),
                _ => safe.Append(rune),
            };
        }

        return safe.ToString();
    }
}
