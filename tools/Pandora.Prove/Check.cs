using Pandora.Client;

namespace Pandora.Prove;

/// <summary>One property that is proven.</summary>
/// <param name="Name">What must hold, as a sentence.</param>
/// <param name="RunAsync">Checks the property on a stage with a new sandbox; returns what was observed, or throws.</param>
internal sealed record Check(string Name, Func<Stage, Sandbox, Task<string>> RunAsync)
{
    /// <inheritdoc/>
    public override string ToString() => Name;
}
