using Pandora.Client;

namespace Pandora.Prove;

/// <summary>One thing that is proven.</summary>
/// <param name="Name">What must hold, as a sentence.</param>
/// <param name="RunAsync">Tries it on a stage with a fresh sandbox; returns what was seen, or throws.</param>
internal sealed record Check(string Name, Func<Stage, Sandbox, Task<string>> RunAsync)
{
    /// <inheritdoc/>
    public override string ToString() => Name;
}
