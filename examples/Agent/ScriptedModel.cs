using Microsoft.Extensions.AI;

namespace Agent;

/// <summary>
/// Stands for a language model: it calls functions, reads their results, and answers. What it calls is a script, so that the example runs
/// without a model. It fails when a result is not what the script needs: a test must fail before the fault is corrected, and pass after
/// that.
/// </summary>
internal sealed class ScriptedModel : IChatClient
{
    private const string Code = """
        def total(prices, discount=0):
            # The discount is in percent.
            return sum(prices) - discount / 100
        """;

    private const string Test = """
        import unittest
        from prices import total

        class TotalTest(unittest.TestCase):
            def test_without_discount(self):
                self.assertEqual(30, total([10, 20]))

            def test_with_discount(self):
                self.assertEqual(27, total([10, 20], discount=10))
        """;

    private const string RunTests = "cd /root/shop && python3 -m unittest";
    private readonly IEnumerator<AIContent> _thoughts;
    private string _result = "";

    public ScriptedModel() => _thoughts = Think().GetEnumerator();

    /// <inheritdoc/>
    public Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        var results = messages.LastOrDefault()?.Contents.OfType<FunctionResultContent>() ?? [];
        _result = results.SingleOrDefault()?.Result?.ToString() ?? "";
        return _thoughts.MoveNext()
            ? Task.FromResult(new ChatResponse(new ChatMessage(ChatRole.Assistant, [_thoughts.Current])))
            : throw new InvalidOperationException("the script is over");
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null,
        [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        foreach (var update in (await GetResponseAsync(messages, options, cancellationToken)).ToChatResponseUpdates())
        {
            yield return update;
        }
    }

    /// <inheritdoc/>
    public object? GetService(Type serviceType, object? serviceKey = null) => serviceType.IsInstanceOfType(this) ? this : null;

    /// <inheritdoc/>
    public void Dispose() => _thoughts.Dispose();

    private IEnumerable<AIContent> Think()
    {
        yield return Call("file_write", ("path", "/root/shop/prices.py"), ("text", Code));
        yield return Call("file_write", ("path", "/root/shop/test_prices.py"), ("text", Test));

        yield return Call("run", ("command", RunTests));
        Expect(_result.StartsWith("exit code 1;", StringComparison.Ordinal), "the tests fail");
        Expect(_result.Contains("AssertionError: 27 != 29.9", StringComparison.Ordinal), "they fail for the discount");

        yield return Call("file_search", ("path", "/root/shop"), ("name", "*.py"), ("pattern", "def total"));
        var path = FromSandbox().Split(':')[0];
        Expect(path.EndsWith("/prices.py", StringComparison.Ordinal), "the function is found");

        yield return Call("file_read", ("path", path));
        var line = FromSandbox().Split('\n').Single(l => l.Contains("return", StringComparison.Ordinal)).Trim();
        Expect(line == "return sum(prices) - discount / 100", "the fault is in this line");

        yield return Call("file_edit", ("path", path), ("old_text", line), ("new_text", "return sum(prices) * (1 - discount / 100)"));
        Expect(_result.StartsWith("replaced 1 times", StringComparison.Ordinal), "the line is replaced");

        yield return Call("run", ("command", RunTests));
        Expect(_result.StartsWith("exit code 0;", StringComparison.Ordinal), "the tests pass");
        Expect(FromSandbox().EndsWith("OK", StringComparison.Ordinal), "both tests ran");

        yield return new TextContent(
            $"The test of the discount failed: {path} subtracted it as an amount. I corrected that; the tests pass.");
    }

    private static FunctionCallContent Call(string function, params (string Name, object? Value)[] arguments) =>
        new(Guid.NewGuid().ToString("N"), function, arguments.ToDictionary(a => a.Name, a => a.Value));

    // The first line of a result is Pandora's, and the second says that the rest is the sandbox's.
    private string FromSandbox() => string.Join('\n', _result.Split('\n').Skip(2)).Trim();

    private void Expect(bool isSo, string what)
    {
        if (!isSo)
        {
            throw new InvalidOperationException($"it is not so that {what}: {_result}");
        }
    }
}
