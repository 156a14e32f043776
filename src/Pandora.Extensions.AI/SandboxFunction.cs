using System.Text.Json;
using Microsoft.Extensions.AI;
using Pandora.Client;

namespace Pandora.Extensions.AI;

/// <summary>
/// A function of an agent: a tool of the server, bound to a sandbox. It has no schema of what it returns, because that is text; the
/// server's schema is of the structure that this text stands for.
/// </summary>
internal sealed class SandboxFunction : AIFunction
{
    private readonly Sandbox _sandbox;
    private readonly ServerTools _server;
    private readonly SandboxTool _tool;

    public SandboxFunction(Sandbox sandbox, ServerTools server, SandboxTool tool, string prefix)
    {
        (_sandbox, _server, _tool) = (sandbox, server, tool);
        Name = prefix + tool.Name;
        Description = prefix.Length == 0
            ? tool.Description
            : $"{tool.Description} It is one of the functions '{prefix}…', which share a sandbox; texts name them without '{prefix}'.";
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override string Description { get; }

    /// <inheritdoc/>
    public override JsonElement JsonSchema => _tool.Schema;

    /// <inheritdoc/>
    protected override async ValueTask<object?> InvokeCoreAsync(AIFunctionArguments arguments, CancellationToken cancellationToken)
    {
        Dictionary<string, object?> bound;
        try
        {
            if (FunctionArguments.Refuse(_tool, arguments, _sandbox.Id) is { } refusal)
            {
                return refusal;
            }

            bound = FunctionArguments.Bind(_tool, arguments, _sandbox.Id);
        }
        catch (InvalidOperationException)
        {
            // Half of a surrogate pair, which models write when they are cut.
            return "invalid_request: an argument is no valid text, and nothing was done: write it again";
        }

        try
        {
            return FunctionResults.Of(await _server.CallAsync(_tool.Name, bound, cancellationToken).ConfigureAwait(false));
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested && FunctionResults.Of(e) is not null)
        {
            return FunctionResults.Of(e);
        }
    }
}
