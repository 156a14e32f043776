using Microsoft.Extensions.AI;

namespace Pandora.Tests.ExtensionsAI;

/// <summary>Calls <c>run</c>, and answers with the result.</summary>
internal sealed class OneCallModel : IChatClient
{
    public Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        Assert.Contains(options!.Tools!, t => t.Name == "run");
        var result = messages.SelectMany(m => m.Contents).OfType<FunctionResultContent>().SingleOrDefault();
        AIContent next = result is null
            ? new FunctionCallContent("1", "run", new Dictionary<string, object?> { ["command"] = "echo hi" })
            : new TextContent((string?)result.Result);
        return Task.FromResult(new ChatResponse(new ChatMessage(ChatRole.Assistant, [next])));
    }

    public IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        throw new NotSupportedException();

    public object? GetService(Type serviceType, object? serviceKey = null) => null;

    public void Dispose()
    {
    }
}
