using System.Collections.Concurrent;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// Which sandbox a client's key stands for: a request that is sent again, because its answer never came, gets the sandbox that the first
/// one made.
/// </summary>
internal sealed class IdempotencyKeys
{
    private readonly ConcurrentDictionary<string, Entry> _entries = new();

    /// <summary>Gives the sandbox that the key stands for, waiting where it is being claimed, or claims one.</summary>
    /// <param name="key">The client's key.</param>
    /// <param name="hash">Hash of the request.</param>
    /// <param name="claim">Claims one.</param>
    /// <param name="cancellationToken">Ends the wait for somebody else's claim.</param>
    /// <exception cref="PandoraException">The key was used for another request, or the claim failed.</exception>
    public async Task<CreatedSandbox> GetOrClaimAsync(
        string key, string hash, Func<Task<CreatedSandbox>> claim, CancellationToken cancellationToken)
    {
        while (true)
        {
            var mine = new Entry(hash);
            var entry = _entries.GetOrAdd(key, mine);
            if (entry.Hash != hash)
            {
                throw new PandoraException(
                    PandoraError.IdempotencyMismatch,
                    "this Idempotency-Key was used for a request with another body: use a new key",
                    "Idempotency-Key");
            }

            if (entry == mine)
            {
                try
                {
                    var created = await claim();
                    mine.Claimed.SetResult(created);
                    return created;
                }
                catch
                {
                    // A claim that failed is no answer to keep: whoever waits for it tries in its place.
                    _entries.TryRemove(new(key, mine));
                    mine.Claimed.SetResult(null);
                    throw;
                }
            }

            if (await entry.Claimed.Task.WaitAsync(cancellationToken) is { } other)
            {
                return other with { IsReplayed = true };
            }
        }
    }

    /// <summary>Adds what an earlier server claimed.</summary>
    public void Add(string key, string hash, CreatedSandbox created)
    {
        var entry = new Entry(hash);
        entry.Claimed.SetResult(created);
        _entries[key] = entry;
    }

    /// <summary>Forgets a sandbox's key.</summary>
    public void Forget(string id)
    {
        foreach (var (key, entry) in _entries)
        {
            if (entry.Claimed.Task is { IsCompletedSuccessfully: true, Result: { } created } && created.Sandbox.Id == id)
            {
                _entries.TryRemove(new(key, entry));
            }
        }
    }

    private sealed class Entry(string hash)
    {
        public string Hash => hash;

        public TaskCompletionSource<CreatedSandbox?> Claimed { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
