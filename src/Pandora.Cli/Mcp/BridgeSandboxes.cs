using ModelContextProtocol;
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
    private readonly HashSet<Task> _asked = [];
    private string? _own, _untold;
    private Task<(string? Id, CallToolResult? Error)>? _making;

    /// <summary>The own sandbox, which is made at its first use.</summary>
    /// <param name="stop">Ends the wait, when the client cancels the call or its time is over. The sandbox is made all the same: else
    /// nobody would know its id and end it.</param>
    /// <param name="cancellationToken">Is cancelled when the client cancels the call.</param>
    /// <returns>Its id; or the error when it could not be made.</returns>
    public async Task<(string? Id, CallToolResult? Error)> OwnAsync(CancellationToken stop, CancellationToken cancellationToken)
    {
        Task<(string?, CallToolResult?)> making;
        lock (_made)
        {
            if (_own is { } own)
            {
                return (own, null);
            }

            making = _making ??= Task.Run(MakeAsync, CancellationToken.None);
        }

        try
        {
            return await making.WaitAsync(stop);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return (null, ToolResults.Error(
                "timeout", "this session's own sandbox is not ready yet, and nothing else was done: call again"));
        }
    }

    /// <summary>Whether the client has not heard of the own sandbox yet. It is true once for each: an answer must say it.</summary>
    public bool IsNew(string own)
    {
        lock (_made)
        {
            var isNew = _untold == own;
            _untold = isNew ? null : _untold;
            return isNew;
        }
    }

    /// <summary>Makes a sandbox that the agent asks for. One of which nobody hears ends.</summary>
    /// <param name="arguments">What it asks for.</param>
    /// <param name="progress">Hears how far it is; null when nobody wants to know.</param>
    /// <param name="stop">Ends the wait.</param>
    public async Task<CallToolResult> CreateAsync(
        IReadOnlyDictionary<string, object?> arguments, IProgress<ProgressNotificationValue>? progress, CancellationToken stop)
    {
        var asking = Track(Task.Run(() => AskAsync(arguments, progress), CancellationToken.None));
        try
        {
            return await asking.WaitAsync(stop);
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            _ = Track(EndUnheardAsync(asking));
            throw;
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

    // A sandbox whose id comes soon is ended by it.
    private async Task StopMakingAsync()
    {
        Task making;
        lock (_made)
        {
            making = Task.WhenAll([.. _asked, _making ?? Task.CompletedTask]);
        }

        await making.WaitAsync(LastLimit, time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _given.CancelAsync();
        await making.WaitAsync(LastLimit, time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
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

    private T Track<T>(T asked)
        where T : Task
    {
        lock (_made)
        {
            _asked.RemoveWhere(t => t.IsCompleted);
            _asked.Add(asked);
        }

        return asked;
    }

    private async Task EndUnheardAsync(Task<CallToolResult> asking)
    {
        await ((Task)asking).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (asking.IsCompletedSuccessfully && ToolResults.TextOf(asking.Result, "sandbox") is { } made && Remove(made))
        {
            using var limit = new CancellationTokenSource(EndLimit, time);
            await EndAsync(made, limit.Token);
        }
    }

    // The server ends what it makes for a request that is given up. What it has made already must be known.
    private async Task<CallToolResult> AskAsync(
        IReadOnlyDictionary<string, object?> wanted, IProgress<ProgressNotificationValue>? progress)
    {
        using var limit = new CancellationTokenSource(MakeLimit, time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(_given.Token, limit.Token);
        var created = await upstream.CallAsync("sandbox_create", wanted, progress, stop.Token);
        if (created.IsError != true && ToolResults.TextOf(created, "sandbox") is { } made)
        {
            Add(made);
        }

        return created;
    }

    private async Task<(string? Id, CallToolResult? Error)> MakeAsync()
    {
        try
        {
            var wanted = new Dictionary<string, object?>
            {
                ["template"] = options.Template,
                ["egress"] = options.Egress,
                ["idle_timeout"] = options.IdleTimeout,
            };
            var created = await AskAsync(wanted.Where(w => w.Value is not null).ToDictionary(), progress: null);
            if (created.IsError == true || ToolResults.TextOf(created, "sandbox") is not { } made)
            {
                return (null, Explain(created));
            }

            lock (_made)
            {
                (_own, _untold) = (made, made);
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

    private bool Remove(string sandbox)
    {
        lock (_made)
        {
            return _made.Remove(sandbox);
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
