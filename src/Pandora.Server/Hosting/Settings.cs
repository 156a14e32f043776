using System.Collections;
using System.ComponentModel.DataAnnotations;
using System.Globalization;
using System.Reflection;
using System.Text;
using Pandora.Engine;
using Pandora.Vmm;

namespace Pandora.Server.Hosting;

/// <summary>One setting, as <c>pandora config</c> shows it.</summary>
/// <param name="Variable">Its environment variable.</param>
/// <param name="Value">What it is.</param>
/// <param name="Source">Where that came from: <c>default</c>, <c>environment</c> or <c>appsettings.json</c>.</param>
public sealed record Setting(string Variable, string Value, string Source);

/// <summary>
/// Reads the settings: environment before <c>appsettings.json</c> before defaults. Each is checked, and one that is unknown or unreadable
/// stops the start.
/// </summary>
public static class Settings
{
    /// <summary>Where settings can be kept besides the environment.</summary>
    public const string FilePath = "/etc/pandora/appsettings.json";

    private const string Prefix = "PANDORA_";
    private const string Section = "Pandora";

    // Of the script and the command-line client, which share the prefix.
    private static readonly string[] Others = ["PANDORA_URL", "PANDORA_API_KEY", "PANDORA_LOG"];

    /// <summary>The file of settings, for commands that are no server.</summary>
    public static IConfiguration File() => new ConfigurationBuilder().AddJsonFile(FilePath, optional: true).Build();

    /// <summary>Fills an options object.</summary>
    /// <exception cref="StartupException">Which setting is wrong and what it may be.</exception>
    public static T Read<T>(IConfiguration configuration, IDictionary? environment = null)
        where T : new()
    {
        var options = new T();
        foreach (var property in Properties(typeof(T)))
        {
            var (text, source) = Find(property, configuration, environment ?? Environment.GetEnvironmentVariables());
            if (text is null)
            {
                continue;
            }

            try
            {
                property.SetValue(options, Convert(text, TypeOf(property)));
            }
            catch (Exception e) when (e is FormatException or ArgumentException or OverflowException)
            {
                throw new StartupException($"{VariableOf(property)} ({source}): '{text}' is not {Expectation(TypeOf(property))}");
            }
        }

        var problems = new List<ValidationResult>();
        if (!Validator.TryValidateObject(options, new ValidationContext(options), problems, validateAllProperties: true))
        {
            var problem = problems[0];
            var property = typeof(T).GetProperty(problem.MemberNames.First())!;
            var rule = problem.ErrorMessage?.Replace($"The field {property.Name} must", "it must", StringComparison.Ordinal);
            throw new StartupException($"{VariableOf(property)}: {property.GetValue(options)} is not allowed; {rule}");
        }

        return options;
    }

    /// <summary>Names the variables with our prefix that mean nothing, which are most likely misspelt.</summary>
    /// <exception cref="StartupException">There is one.</exception>
    public static void RejectUnknown(IDictionary? environment = null)
    {
        var known = Known().Select(VariableOf).Concat(Others).ToHashSet();
        foreach (
            var name in (environment ?? Environment.GetEnvironmentVariables())
                .Keys.OfType<string>()
                .Where(n => n.StartsWith(Prefix, StringComparison.Ordinal)))
        {
            if (!known.Contains(name))
            {
                throw new StartupException($"{name} is no setting of Pandora's: './pandora config' lists them all");
            }
        }
    }

    /// <summary>All settings as they are; secrets are not shown.</summary>
    public static IReadOnlyList<Setting> List(IConfiguration configuration)
    {
        var values = new object[]
        {
            Read<EngineOptions>(configuration),
            Read<VmmOptions>(configuration),
            Read<ServerOptions>(configuration),
        };
        return
        [
            .. values.SelectMany(options =>
                Properties(options.GetType())
                    .Select(p =>
                    {
                        var value = System.Convert.ToString(p.GetValue(options), CultureInfo.InvariantCulture) ?? "";
                        var shown =
                            p.Name is nameof(ServerOptions.ApiKeys) or nameof(ServerOptions.MetricsKey) && value.Length > 0
                                ? "(hidden)"
                                : value;
                        return new Setting(VariableOf(p), shown, Find(p, configuration, Environment.GetEnvironmentVariables()).Source);
                    })),
        ];
    }

    /// <summary>The environment variable of a property: <c>PoolSize</c> is <c>PANDORA_POOL_SIZE</c>.</summary>
    internal static string VariableOf(PropertyInfo property)
    {
        var name = new StringBuilder(Prefix);
        foreach (var letter in property.Name)
        {
            name.Append(char.IsUpper(letter) && name.Length > Prefix.Length ? "_" : "").Append(char.ToUpperInvariant(letter));
        }

        return name.ToString();
    }

    private static IEnumerable<PropertyInfo> Known() =>
        new[] { typeof(EngineOptions), typeof(VmmOptions), typeof(ServerOptions) }.SelectMany(Properties);

    private static IEnumerable<PropertyInfo> Properties(Type type) => type.GetProperties().Where(p => p.CanWrite);

    private static (string? Text, string Source) Find(PropertyInfo property, IConfiguration configuration, IDictionary environment)
    {
        if (environment[VariableOf(property)] is string { Length: > 0 } fromEnvironment)
        {
            return (fromEnvironment, "environment");
        }

        return configuration[$"{Section}:{property.Name}"] is { } fromFile ? (fromFile, "appsettings.json") : (null, "default");
    }

    // One without a default may be left out.
    private static Type TypeOf(PropertyInfo property) => Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;

    private static object Convert(string text, Type type) => Type.GetTypeCode(type) switch
    {
        TypeCode.String => text,
        TypeCode.Boolean => bool.Parse(text),
        TypeCode.Double => double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture),
        TypeCode.Int32 when !type.IsEnum => int.Parse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture),
        // A number would be accepted as a value of the enumeration.
        _ when int.TryParse(text, out _) => throw new FormatException(),
        _ => Enum.Parse(type, text, ignoreCase: true),
    };

    private static string Expectation(Type type) => Type.GetTypeCode(type) switch
    {
        TypeCode.Boolean => "true or false",
        TypeCode.Double => "a number",
        TypeCode.Int32 when !type.IsEnum => "a whole number",
        _ => $"one of {string.Join(", ", Enum.GetNames(type).Select(n => n.ToLowerInvariant()))}",
    };
}
