using System.Text.Json;
using System.Text.Json.Nodes;
using ModelContextProtocol;
using ModelContextProtocol.Protocol;
using ModelContextProtocol.Server;

namespace Pandora.Mcp;

/// <summary>
/// Says what is wrong with a request whose values cannot be read: the SDK says no more than that an error occurred. Part of the server and
/// of the command line's bridge.
/// </summary>
internal static class UnreadableRequests
{
    /// <summary>The words for a value of the wrong type.</summary>
    public const string Form = "the params do not have the form that the protocol gives them";

    /// <summary>Handles a message.</summary>
    public static McpMessageHandler Filter(McpMessageHandler next) => async (context, cancellationToken) =>
    {
        try
        {
            await next(context, cancellationToken);
        }
        catch (InvalidOperationException e) when (
            context.JsonRpcMessage is JsonRpcRequest { Params: { } given } && BrokenIn(given) is { } name)
        {
            throw new McpProtocolException($"{name}: has half a surrogate pair, which is no text", e, McpErrorCode.InvalidParams);
        }
        catch (JsonException e) when (context.JsonRpcMessage is JsonRpcRequest)
        {
            throw new McpProtocolException(Form, e, McpErrorCode.InvalidParams);
        }
    };

    // The name of the argument that JSON may have and UTF-8 not; null for none. Models write it when their text is cut.
    private static string? BrokenIn(JsonNode given) =>
        !IsBroken(given) ? null
        : given is JsonObject { } all && all["arguments"] is JsonObject arguments
            ? arguments.FirstOrDefault(a => a.Value is { } value && IsBroken(value)).Key ?? "params"
            : "params";

    private static bool IsBroken(JsonNode node)
    {
        try
        {
            using var writer = new Utf8JsonWriter(Stream.Null);
            node.WriteTo(writer);
            return false;
        }
        catch (InvalidOperationException)
        {
            return true;
        }
    }
}
