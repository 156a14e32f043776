using ModelContextProtocol.Protocol;
using Pandora.Client;

namespace Pandora.Cli.Mcp;

/// <summary>What the bridge's own sandbox is to be like. Null stands for the server's default.</summary>
/// <param name="Template">Name of the template.</param>
/// <param name="Egress">internet or none.</param>
/// <param name="IdleTimeout">Seconds without use after which it ends.</param>
internal sealed record OwnSandboxOptions(string? Template = null, string? Egress = null, double? IdleTimeout = null);

/// <summary>
/// The sandboxes that were made through the bridge: its own, which calls use that name none, and those that the agent made. All end with
/// the bridge. After a kill -9 they end by their idle timeout.
/// </summary>
internal sealed class BridgeSandboxes(PandoraApi api, Upstream upstream, OwnSandboxOptions options, TimeProvider time) : IAsyncDisposable
{
    // Hosts kill a program that does not end within two seconds.
    private static readonly TimeSpan EndLimit = TimeSpan.FromSeconds(10), LastLimit = TimeSpan.FromSeconds(1);

    // The server answers within 50 s. An answer that was lost must not be waited for by all later calls.
    private static readonly TimeSpan MakeLimit = TimeSpan.FromSeconds(60);
    private readonly CancellationTokenSource _given = new();
    private readonly HashSet<string> _made = new(StringComparer.Ordinal);
    private string? _own;
    private bool _isTold = true;
    private Task<(string? Id, CallToolResult? Error)>? _making;

    /// <summary>The own sandbox, which is made at its first use.</summary>
    /// <param name="stop">Ends the wait, when the client cancels the call or its time is over. The sandbox is made all the same: else
    /// nobody would know its id and end it.</param>
    /// <param name="cancellationToken">Is cancelled when the client cancels the call.</param>
    /// <returns>Its id and whether it is new to the client; or the error when it could not be made.</returns>
    public async Task<(string? Id, bool IsNew, CallToolResult? Error)> OwnAsync(CancellationToken stop, CancellationToken cancellationToken)
    {
        Task<(string?, CallToolResult?)> making;
        lock (_made)
        {
            if (_own is { } own)
            {
                return (own, Tell(), null);
            }

            making = _making ??= Task.Run(MakeAsync, CancellationToken.None);
        }

        try
        {
            var (id, error) = await making.WaitAsync(stop);
            return (id, error is null && Tell(), error);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return (null, false, ToolResults.Error(
                "timeout", "this session's own sandbox is not ready yet, and nothing else was done: call again"));
        }
    }

    // Once for each.
    private bool Tell()
    {
        lock (_made)
        {
            var isNew = !_isTold;
            _isTold = true;
            return isNew;
        }
    }

    /// <summary>Learns from an answer which sandbox was made or has ended.</summary>
    /// <param name="tool">The tool that was called.</param>
    /// <param name="sandbox">The sandbox that the call named or that was filled in; null for none.</param>
    /// <param name="result">The answer.</param>
    /// <returns>Whether the named sandbox has ended.</returns>
    public bool Learn(string tool, string? sandbox, CallToolResult result)
    {
        if (sandbox is not null && (ToolResults.CodeOf(result) is "sandbox_not_found" or "sandbox_gone"
            || (tool == "sandbox_end" && result.IsError != true)))
        {
            lock (_made)
            {
                _made.Remove(sandbox);
                // The next call that names none gets a new one.
                _own = _own == sandbox ? null : _own;
            }

            return true;
        }

        if (sandbox is null && result.IsError != true && ToolResults.TextOf(result, "sandbox") is { } made)
        {
            Add(made);
        }

        return false;
    }

    /// <summary>Ends all of them, within ten seconds.</summary>
    public async ValueTask DisposeAsync()
    {
        using var limit = new CancellationTokenSource(EndLimit, time);
        await Task.WhenAll(EndMadeAsync(limit.Token), StopMakingAsync());
        // What was made meanwhile.
        await EndMadeAsync(limit.Token);
        _given.Dispose();
    }

    // A sandbox whose id comes soon is ended by it. The server ends what it makes for a request that is given up.
    private async Task StopMakingAsync()
    {
        Task? making;
        lock (_made)
        {
            making = _making;
        }

        if (making is not null)
        {
            await making.WaitAsync(LastLimit, time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await _given.CancelAsync();
            await making.WaitAsync(LastLimit, time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private Task EndMadeAsync(CancellationToken cancellationToken)
    {
        string[] left;
        lock (_made)
        {
            left = [.. _made];
            _made.Clear();
        }

        return Task.WhenAll(left.Select(id => EndAsync(id, cancellationToken)));
    }

    private async Task<(string? Id, CallToolResult? Error)> MakeAsync()
    {
        using var limit = new CancellationTokenSource(MakeLimit, time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(_given.Token, limit.Token);
        try
        {
            var wanted = new Dictionary<string, object?>
            {
                ["template"] = options.Template,
                ["egress"] = options.Egress,
                ["idle_timeout"] = options.IdleTimeout,
            };
            var created = await upstream.CallAsync(
                "sandbox_create", wanted.Where(w => w.Value is not null).ToDictionary(), progress: null, stop.Token);
            if (created.IsError == true || ToolResults.TextOf(created, "sandbox") is not { } made)
            {
                return (null, Explain(created));
            }

            Add(made);
            lock (_made)
            {
                (_own, _isTold) = (made, false);
            }

            return (made, null);
        }
        finally
        {
            lock (_made)
            {
                _making = null;
            }
        }
    }

    // No call has such an argument: the user gave it.
    private static CallToolResult Explain(CallToolResult refusal)
    {
        var field = refusal.Meta?["pandora/error"]?["field"]?.GetValue<string>();
        return field is "template" or "egress" or "idle_timeout" && refusal.Content is [TextContentBlock { Text: var words }, ..]
            ? ToolResults.Error(
                ToolResults.CodeOf(refusal)!,
                $"this session's own sandbox cannot be made as your user started './pandora mcp': --{field.Replace('_', '-')} ({words})")
            : refusal;
    }

    private void Add(string sandbox)
    {
        lock (_made)
        {
            _made.Add(sandbox);
        }
    }

    private async Task EndAsync(string id, CancellationToken cancellationToken)
    {
        try
        {
            await api.DeleteAsync(id, cancellationToken);
        }
        catch (Exception e) when (e is SandboxNotFoundException or SandboxGoneException)
        {
            // It has ended.
        }
        catch (Exception e) when (e is PandoraClientException or OperationCanceledException)
        {
            Console.Error.WriteLine($"pandora: sandbox {id} could not be ended, and ends when it is idle: {e.Message}");
        }
    }
}
