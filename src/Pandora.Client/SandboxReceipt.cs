using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>What the end of a sandbox cleaned up on the host.</summary>
public sealed record SandboxReceipt
{
    /// <summary>Id of the sandbox that ended.</summary>
    public string SandboxId { get; init; } = "";

    /// <summary>Why it ended.</summary>
    public string Reason { get; init; } = "";

    /// <summary>Time from its creation to its end.</summary>
    public TimeSpan Lifetime { get; init; }

    /// <summary>Number of commands that were started in it.</summary>
    public int ExecCount { get; init; }

    /// <summary>Time until the guest was dead and its files were gone.</summary>
    public TimeSpan Teardown { get; init; }

    /// <summary>Each resource on the host, in the order in which it was cleaned up.</summary>
    public IReadOnlyList<ReceiptItem> Resources { get; init; } = [];

    /// <summary>How many of the resources remain: as checked on the host afterwards. 0 is the promise.</summary>
    public int Remaining { get; init; }

    /// <summary>How well the VMM isolated the sandbox.</summary>
    public string Isolation { get; init; } = "";

    internal static SandboxReceipt From(Receipt receipt) => new()
    {
        SandboxId = receipt.SandboxId,
        Reason = receipt.Reason,
        Lifetime = WireTime.Seconds(receipt.LifetimeSeconds),
        ExecCount = receipt.ExecCount,
        Teardown = WireTime.Milliseconds(receipt.TeardownMs),
        Resources = [.. receipt.Resources.Select(ReceiptItem.From)],
        Remaining = receipt.Left,
        Isolation = receipt.Isolation,
    };
}

/// <summary>One resource of the host on a <see cref="SandboxReceipt"/>.</summary>
public sealed record ReceiptItem
{
    /// <summary>Its kind, such as <c>process</c> or <c>namespace</c>.</summary>
    public string Kind { get; init; } = "";

    /// <summary>Its name or path on the host.</summary>
    public string Name { get; init; } = "";

    /// <summary>Time that cleaning it up took.</summary>
    public TimeSpan Duration { get; init; }

    /// <summary>Whether the host no longer has it.</summary>
    public bool IsGone { get; init; }

    /// <summary>What failed, or null.</summary>
    public string? Error { get; init; }

    internal static ReceiptItem From(ReceiptResource resource) => new()
    {
        Kind = resource.Kind,
        Name = resource.Name,
        Duration = WireTime.Milliseconds(resource.Ms),
        IsGone = resource.Gone,
        Error = resource.Error,
    };
}
