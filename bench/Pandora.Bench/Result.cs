using System.Globalization;

namespace Pandora.Bench;

/// <summary>One line of the table.</summary>
/// <param name="Name">What was measured.</param>
/// <param name="Value">What came out.</param>
/// <param name="Unit">Its unit.</param>
/// <param name="Target">At most this is wanted.</param>
/// <param name="Reference">What it was measured against in the same run, where it is a ratio.</param>
internal sealed record Result(string Name, double Value, string Unit, double Target, string Reference = "")
{
    public bool IsMet => Value <= Target;

    public string Shown => string.Create(CultureInfo.InvariantCulture, $"{Value:0.##} {Unit}");
}
