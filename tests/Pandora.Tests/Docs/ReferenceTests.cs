using System.Globalization;
using System.Reflection;
using System.Text;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Networking;
using Pandora.Engine.Recovery;
using Pandora.Engine.Telemetry;
using Pandora.Server.Gateway;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Tests.Docs;

/// <summary>Generates <c>docs/reference.md</c> from the tables in the code and their comments.</summary>
public sealed class ReferenceTests
{
    private const string Page = "docs/reference.md";

    [Fact]
    public void The_page_in_the_repository_agrees_with_the_code()
    {
        GeneratedPage.Check(Page, Write());
    }

    private static string Write()
    {
        var page = new StringBuilder();
        page.Append("""
            # Reference

            A test makes this page from the code (`ReferenceTests`, with `MAKE_REFERENCE=1` in its environment): change it there.

            ## Errors of the API

            From `ErrorCodes.cs`. Each answer is a problem (RFC 9457) with the member `code`. *Retry* is `Retry-After` in seconds.

            | code | status | title | retry | exception of `Pandora.Client` | answers | meaning |
            |---|---|---|---|---|---|---|

            """);
        foreach (var row in ErrorCodes.All)
        {
            var exception = row.Kind == ErrorKind.Other ? nameof(PandoraApiException) : $"{row.Kind}Exception";
            var retry = row.RetryAfterSeconds?.ToString(CultureInfo.InvariantCulture);
            page.AppendLine(CultureInfo.InvariantCulture,
                $"| `{row.Code}` | {row.Status} | {row.Title} | {retry} | `{exception}` | {Answers(row.Operations)} | {row.Meaning} |");
        }

        page.Append(CultureInfo.InvariantCulture, $"""

            `pandora_failures_total` counts these, and two that no client receives: `{EngineMetrics.Cancelled}` (the client went away before
            the operation was done) and `{EngineMetrics.NotDelivered}` (the client did not take the whole result of a command, or took it
            too slowly).

            ## Limits of requests

            From `Limits.cs`.

            | limit | value | |
            |---|---|---|

            """);
        foreach (var limit in typeof(Limits).GetFields(BindingFlags.Public | BindingFlags.Static))
        {
            var value = limit.GetValue(null);
            var shown = limit.Name.EndsWith("Bytes", StringComparison.Ordinal) ? Limits.Size((int)value!)
                : string.Create(CultureInfo.InvariantCulture, $"{value}");
            var comment = SourceComment.Of("src/Pandora.Contracts/Limits.cs", $@"public const \w+ {limit.Name} =");
            page.AppendLine(CultureInfo.InvariantCulture, $"| `{limit.Name}` | {shown} | {comment} |");
        }

        page.AppendLine();
        page.AppendLine("## Values of labels and members");
        Describe<BootStep>(
            page, "Steps of a boot",
            "`step` of `pandora_vm_boot_step_seconds` and `pandora_warm_boot_failures_total`, spans `microvm.boot.STEP`, the log.");
        Describe<PoolStart>(page, "Starts of a microVM", "`start` of `pandora_vm_boot_seconds`, and the setting `PANDORA_POOL_START`.");
        Describe<EndReason>(page, "Ends of a sandbox", "`reason` of `pandora_sandboxes_ended_total`, of receipts and of the audit.");
        Describe<ExecStatus>(page, "Ends of a command", "`status` of `pandora_executions_total`.");
        Describe<CommandOutcome>(page, "What is known of a command that did not end by itself", "`command` of a problem.");
        Describe<SandboxOperation>(page, "Operations", "`operation` of `pandora_failures_total`.");
        Describe<AuditOperation>(page, "Operations in the audit", "`operation` of the audit, which has `lost` as well: a gap.");
        Describe<SnapshotOutcome>(page, "Snapshots", "`outcome` of `pandora_snapshots_total`.");
        Describe<RecoveryOutcome>(page, "MicroVMs of an earlier server", "`outcome` of `pandora_recovered_total`.");
        Describe<ResourceKind>(page, "Resources of a microVM", "`kind` of `pandora_teardown_errors_total` and of receipts.");
        Describe<AuditedKind>(page, "Resources of an instance", "`kind` of `pandora_leaked_resources` and of `./pandora doctor --leaks`.");
        Describe<ProtectionRepair>(page, "Repairs of the network", "`what` of `pandora_protection_repairs_total`.");
        Describe<ClosingReason>(page, "Refused connections", "`reason` of `pandora_connections_refused_total`.");
        Describe<PortUse>(page, "Connections to ports", "`kind` of `pandora_port_connections`.");
        Describe<PortDirection>(page, "Bytes over ports", "`direction` of `pandora_port_bytes_total`.");
        Describe<PreviewResult>(page, "Requests to previews", "`result` of `pandora_preview_requests_total`.");
        return page.ToString();
    }

    private static void Describe<T>(StringBuilder page, string title, string where)
        where T : struct, Enum
    {
        page.AppendLine(CultureInfo.InvariantCulture, $"\n### {title}\n\n{where}\n\n| value | |\n|---|---|");
        var declaration = $"enum {typeof(T).Name}\n";
        var source = Directory.EnumerateFiles(Repository.PathOf("src"), "*.cs", SearchOption.AllDirectories)
            .Single(f => File.ReadAllText(f).Contains(declaration, StringComparison.Ordinal));
        foreach (var value in Enum.GetValues<T>())
        {
            var comment = SourceComment.Of(source, $"{value}[,\n]", declaration);
            page.AppendLine(CultureInfo.InvariantCulture, $"| `{Label.Of(value)}` | {comment} |");
        }
    }

    private static string Answers(ApiOperations operations) => operations switch
    {
        ApiOperations.None => "no operation",
        ApiOperations.All => "every operation",
        _ => string.Join(", ", Enum.GetValues<ApiOperations>().Where(o => int.PopCount((int)o) == 1 && operations.HasFlag(o))
            .Select(o => $"{o}".ToLowerInvariant())),
    };
}
