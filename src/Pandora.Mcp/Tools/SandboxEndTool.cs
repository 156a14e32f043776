using System.ComponentModel;
using Pandora.Engine;

namespace Pandora.Mcp.Tools;

/// <summary>Arguments of <c>sandbox_end</c>.</summary>
internal sealed record SandboxArguments
{
    [Description(Texts.InSandbox)]
    public required string Sandbox { get; init; }
}

/// <summary>A sandbox that was ended.</summary>
internal sealed record EndedAnswer(string Sandbox, bool Ended);

/// <summary>Ends a sandbox that was made through this front end.</summary>
internal sealed class SandboxEndTool() : PandoraTool<SandboxArguments, EndedAnswer>(
    "sandbox_end",
    "End a sandbox",
    "Ends a sandbox with its files and processes, for ever. Only sandboxes that were made by these tools can be ended.",
    Texts.Does(isDestructive: true, isIdempotent: true))
{
    /// <inheritdoc/>
    protected override async Task<ToolAnswer<EndedAnswer>> CallAsync(ToolCall call, SandboxArguments arguments)
    {
        var sandbox = call.Sandboxes.Get(arguments.Sandbox);
        if (!NewSandboxes.IsOwn(sandbox))
        {
            throw PandoraException.Invalid(
                "sandbox", "it was not made through MCP, and its maker may need it: leave it");
        }

        await call.Sandboxes.DeleteAsync(sandbox.Id, complete: false);
        return new($"sandbox {sandbox.Id} has ended", new EndedAnswer(sandbox.Id, Ended: true));
    }
}
