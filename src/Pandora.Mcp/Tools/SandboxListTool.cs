using System.ComponentModel;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;

namespace Pandora.Mcp.Tools;

/// <summary>No arguments.</summary>
internal sealed record NoArguments;

/// <summary>The sandboxes of the client's project.</summary>
internal sealed record SandboxesAnswer(
    IReadOnlyList<ListedSandbox> Sandboxes, [property: Description("How many there are; the newest are listed.")] int Total);

/// <summary>A sandbox.</summary>
internal sealed record ListedSandbox(
    string Sandbox,
    string Template,
    [property: Description("running, degraded or recovering.")] string State,
    [property: Description("Seconds since it was made.")] double Age,
    [property: Description("Seconds without use.")] double Idle,
    [property: Description("Seconds without use after which it ends.")] double IdleTimeout,
    [property: Description("Whether sandbox_end may end it.")] bool MadeThroughMcp);

/// <summary>Lists the sandboxes.</summary>
internal sealed class SandboxListTool() : PandoraTool<NoArguments, SandboxesAnswer>(
    "sandbox_list", "List sandboxes", "Lists the sandboxes that exist, newest first.", Texts.Does(isReadOnly: true, isIdempotent: true))
{
    private const int Most = 50;

    /// <inheritdoc/>
    protected override Task<ToolAnswer<SandboxesAnswer>> CallAsync(ToolCall call, NoArguments arguments)
    {
        var (all, registry) = (call.Sandboxes.List(), call.Get<SandboxRegistry>());
        var shown = all.OrderByDescending(s => s.CreatedAt).Take(Most).Select(s => new ListedSandbox(
            s.Id, s.Template, Label.Of(s.State), Math.Round(s.Age.TotalSeconds, 1), Math.Round(s.Idle.TotalSeconds, 1),
            s.Lifetime.Idle.TotalSeconds, registry.HasAnnotation(s.Id, NewSandboxes.Annotation)));
        return Task.FromResult(new ToolAnswer<SandboxesAnswer>(
            all.Count == 0 ? "no sandboxes" : string.Join('\n', shown.Select(Line).Prepend($"{all.Count} sandboxes")),
            new SandboxesAnswer([.. shown], all.Count)));
    }

    private static string Line(ListedSandbox sandbox) =>
        $"{sandbox.Sandbox}: {sandbox.State}, {sandbox.Age:0} s old, {sandbox.Idle:0} s idle of {sandbox.IdleTimeout:0}";
}
