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
    private static readonly TimeSpan EndLimit = TimeSpan.FromSeconds(10);
    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly HashSet<string> _made = new(StringComparer.Ordinal);
    private string? _own;

    /// <summary>The own sandbox, which is made at its first use.</summary>
    /// <returns>Its id and whether this call made it; or the error when it could not be made.</returns>
    public async Task<(string? Id, bool IsNew, CallToolResult? Error)> OwnAsync(CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken);
        try
        {
            if (_own is { } id)
            {
                return (id, false, null);
            }

            var wanted = new Dictionary<string, object?>
            {
                ["template"] = options.Template,
                ["egress"] = options.Egress,
                ["idle_timeout"] = options.IdleTimeout,
            };
            var created = await upstream.CallAsync(
                "sandbox_create", wanted.Where(w => w.Value is not null).ToDictionary(), progress: null, cancellationToken);
            if (created.IsError == true || ToolResults.TextOf(created, "sandbox") is not { } made)
            {
                return (null, false, created);
            }

            Add(made);
            return (_own = made, true, null);
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Learns from an answer which sandbox was made or has ended.</summary>
    /// <param name="tool">The tool that was called.</param>
    /// <param name="sandbox">The sandbox that the call named or that was filled in; null for none.</param>
    /// <param name="result">The answer.</param>
    public void Learn(string tool, string? sandbox, CallToolResult result)
    {
        if (sandbox is not null && (ToolResults.CodeOf(result) is "sandbox_not_found" or "sandbox_gone"
            || (tool == "sandbox_end" && result.IsError != true)))
        {
            lock (_made)
            {
                _made.Remove(sandbox);
            }

            // The next call that names none gets a new one.
            _ = Interlocked.CompareExchange(ref _own, null, sandbox);
        }
        else if (sandbox is null && result.IsError != true && ToolResults.TextOf(result, "sandbox") is { } made)
        {
            Add(made);
        }
    }

    /// <summary>Ends all of them, within ten seconds.</summary>
    public async ValueTask DisposeAsync()
    {
        string[] left;
        lock (_made)
        {
            left = [.. _made];
        }

        using var limit = new CancellationTokenSource(EndLimit, time);
        await Task.WhenAll(left.Select(id => EndAsync(id, limit.Token)));
        _turn.Dispose();
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
