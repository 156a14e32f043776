using System.Globalization;

namespace Pandora.Bench;

/// <summary>One line of the table.</summary>
/// <param name="Name">What was measured.</param>
/// <param name="Value">What came out.</param>
/// <param name="Unit">Its unit.</param>
/// <param name="Target">At most this is wanted.</param>
/// <param name="Reference">What it was measured against in the same run, where it is a ratio, or how often.</param>
internal sealed record Result(string Name, double Value, string Unit, double Target, string Reference = "")
{
    public double Value { get; init; } = Math.Round(Value, 3);

    public bool IsMet => Value <= Target;

    public string Shown => string.Create(CultureInfo.InvariantCulture, $"{Value:0.##} {Unit}");

    public string Wanted => string.Create(CultureInfo.InvariantCulture, $"≤ {Target:0.##}");
}
