using System.Collections.Concurrent;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// The sandboxes that clients' idempotency keys stand for. A client that received no answer sends its request again, and gets the sandbox
/// that the first request made.
/// </summary>
internal sealed class IdempotencyKeys
{
    private readonly ConcurrentDictionary<(string Project, string Key), Entry> _entries = new();

    /// <summary>Returns the sandbox that the key stands for, after its claim has ended, or claims a sandbox.</summary>
    /// <param name="key">The client's key, in its project.</param>
    /// <param name="hash">Hash of the request.</param>
    /// <param name="claim">Claims a sandbox.</param>
    /// <param name="cancellationToken">Ends the wait for the claim of another request.</param>
    /// <exception cref="PandoraException">The key was used for another request, or the claim failed.</exception>
    public async Task<CreatedSandbox> GetOrClaimAsync(
        (string Project, string Key) key, string hash, Func<Task<CreatedSandbox>> claim, CancellationToken cancellationToken)
    {
        while (true)
        {
            var candidate = new Entry(hash);
            var entry = _entries.GetOrAdd(key, candidate);
            if (entry.Hash != hash)
            {
                throw new PandoraException(
                    PandoraError.IdempotencyMismatch,
                    "this Idempotency-Key was used for a request with another body: use a new key",
                    "Idempotency-Key");
            }

            if (entry == candidate)
            {
                try
                {
                    var created = await claim();
                    candidate.Claimed.SetResult(created);
                    return created;
                }
                catch
                {
                    // The result of a failed claim is not kept: a request that waits for it claims a sandbox itself.
                    _entries.TryRemove(new(key, candidate));
                    candidate.Claimed.SetResult(null);
                    throw;
                }
            }

            if (await entry.Claimed.Task.WaitAsync(cancellationToken) is { } other)
            {
                return other with { IsReplayed = true };
            }
        }
    }

    /// <summary>Adds a sandbox that an earlier server claimed for a key.</summary>
    public void Add((string Project, string Key) key, string hash, CreatedSandbox created)
    {
        var entry = new Entry(hash);
        entry.Claimed.SetResult(created);
        _entries[key] = entry;
    }

    /// <summary>Forgets the key of a sandbox.</summary>
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
